// Command crewrun-kube holds every program of a small Kubernetes cluster in one static binary.
//
// The first argument names the program, the rest are its own arguments. A link named `kubectl`
// is that program, so that people and scripts can call it as they are used to:
//
//	crewrun-kube kube-apiserver --etcd-servers=...
//	kubectl get pods
//
// One binary instead of seven links the shared half of Kubernetes once: a cold build takes
// minutes instead of a quarter of an hour, and the cache holds one file.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"

	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics on /metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // build information on /metrics

	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// servers maps a program's name to its cobra command. The commands are made on demand: making
// one registers flags and metrics that would clash with another's.
var servers = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-proxy":              kubeproxy.NewProxyCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	// The kubelet installs its own signal handler, and a second one panics: no signal context here.
	"kubelet": func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
}

func main() {
	program := filepath.Base(os.Args[0])
	if program != "kubectl" {
		if len(os.Args) < 2 {
			fail("no program named")
		}
		program = os.Args[1]
		os.Args = append([]string{program}, os.Args[2:]...)
	}
	switch program {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kubectl":
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			kubectlutil.CheckErr(err)
		}
	default:
		command, known := servers[program]
		if !known {
			fail(fmt.Sprintf("unknown program %q", program))
		}
		os.Exit(cli.Run(command()))
	}
}

func fail(what string) {
	names := []string{"etcd", "kubectl"}
	for name := range servers {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintf(os.Stderr, "crewrun-kube: %s; the first argument is one of: %s\n", what, strings.Join(names, ", "))
	os.Exit(2)
}
