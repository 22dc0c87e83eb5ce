/** The back ends that a worker of this program has beside processes; each is loaded when a version first asks for it. */
import { hostname } from 'node:os';
import path from 'node:path';
import type { Settings } from '../shared/config/settings.ts';
import type { BackendFactories } from '../workers/backends.ts';
import { packagePath } from '../workers/python/launch.ts';

/** The same after a restart; processes of one store on one machine clean up after each other's dead. */
const ownerOf = ({ store, redisPrefix, data }: Settings): string =>
  JSON.stringify(store === 'embedded' ? [hostname(), path.resolve(data)] : [hostname(), store, redisPrefix]);

export const backendsOf = (settings: Settings): Omit<BackendFactories, 'process'> => ({
  container: async (parts) => {
    const { makeContainerBackend, READY_MS_MAX } = await import('../workers/container/index.ts');
    const pythonPath = packagePath();
    if (pythonPath === null) throw new Error('the Python package sluice is not in this installation');
    const factory = makeContainerBackend({
      tool: settings.containerTool,
      args: settings.containerArgs.split(/\s+/).filter(Boolean),
      pythonImage: settings.containerPythonImage,
      owner: ownerOf(settings),
      pythonPath,
      readyMsMax: READY_MS_MAX,
    });
    return factory(parts);
  },
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
