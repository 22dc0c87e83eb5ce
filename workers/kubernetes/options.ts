/** What an operator says of the cluster; see the settings --kubernetes-… */
import type { FunctionVersion } from '../../shared/domain/function.ts';

export type ClusterOptions = {
  /** '': that of the pod that this worker runs in, or of the kubeconfig's context. */
  readonly namespace: string;
  /** Path of a kubeconfig; '': in a pod its service account, elsewhere the client's own places. */
  readonly kubeconfig: string;
  /** Sluice's own image, for the init container that fetches model files; '': versions with files are refused. */
  readonly image: string;
  /** Where pods reach Sluice's API, such as http://sluice.sluice.svc:7700; '': versions with files are refused. */
  readonly address: string;
  /** Secret of the namespace whose `key` is an API key with the scope `call`, for the init container; '': none is needed. */
  readonly secret: string;
  /** Secret of the namespace for pulling images; '': none. */
  readonly pullSecret: string;
  /** Node label that tells the type of a node's GPUs; '': types select no nodes. */
  readonly gpuLabel: string;
  /** The /metrics of a Sluice process with the role ingress, for KEDA; '': replicas are counted by CPU alone. */
  readonly metrics: string;
  /** `restricted`: pods run as a user of ours with a read-only root. `image`: as the image says. */
  readonly podSecurity: 'restricted' | 'image';
  /** Take fields that another field manager has, instead of saying so. */
  readonly force: boolean;
};

export type KubernetesOptions = ClusterOptions & {
  /** Ids of all live workers that serve the version, this one among them or not: pods are shared out among them. */
  readonly peers: (version: FunctionVersion) => Promise<readonly string[]>;
};
