/** The back ends that a worker of this program has beside processes; each is loaded when a version first asks for it. */
import type { Settings } from '../shared/config/settings.ts';
import type { BackendFactories } from '../workers/backends.ts';

export const backendsOf = (settings: Settings): Omit<BackendFactories, 'process'> => ({
  kubernetes: async (parts) => {
    const { makeKubernetesBackend } = await import('../workers/kubernetes/index.ts');
    const factory = makeKubernetesBackend({
      kubeconfig: settings.kubernetesConfig,
      namespace: settings.kubernetesNamespace,
      image: settings.kubernetesImage,
      address: settings.kubernetesAddress,
      secret: settings.kubernetesSecret,
      pullSecret: settings.kubernetesPullSecret,
      gpuLabel: settings.kubernetesGpuLabel,
      metrics: settings.kubernetesMetrics,
      podSecurity: settings.kubernetesPodSecurity === 'image' ? 'image' : 'restricted',
      force: settings.kubernetesForce === 'yes',
      peers: parts.peers,
    });
    return factory(parts);
  },
});
