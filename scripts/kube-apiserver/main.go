// The API server of Kubernetes as it is released, for scripts/test-kubernetes.sh. go.mod puts the released v0.33 modules in place of
// the v0.0.0 ones that its own go.mod takes from its source tree.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/workqueue"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
