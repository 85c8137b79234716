// Package manifests checks the Kubernetes manifests as an API server would. It
// is a module of its own, so that the daemon's go.mod stays free of Kubernetes.
package manifests

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// objects are the manifests, by file.
func objects(t *testing.T) map[string]metav1.Object {
	t.Helper()
	// go test's cache does not see them change: run it with -count=1.
	files, err := filepath.Glob("../../kubernetes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	out := map[string]metav1.Object{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content, []byte("\n---\n")) {
			t.Errorf("%s: one object a file, please", file)
		}
		out[filepath.Base(file)] = decode(t, file, content)
	}
	return out
}

// decode refuses unknown and repeated keys.
func decode(t *testing.T, file string, content []byte) metav1.Object {
	t.Helper()
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(content, &kind); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	object, known := map[string]metav1.Object{
		"v1/Namespace": &corev1.Namespace{}, "v1/Secret": &corev1.Secret{},
		"apps/v1/Deployment":                 &appsv1.Deployment{},
		"networking.k8s.io/v1/NetworkPolicy": &networkingv1.NetworkPolicy{},
	}[kind.APIVersion+"/"+kind.Kind]
	if !known {
		t.Fatalf("%s: %s/%s is not checked here yet", file, kind.APIVersion, kind.Kind)
	}
	asJSON, err := yaml.YAMLToJSONStrict(content)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	// Like the API server, and unlike encoding/json, it minds upper and lower case.
	mistakes, err := json.UnmarshalStrict(asJSON, object)
	if err = errors.Join(append(mistakes, err)...); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return object
}

// deployments are those of the manifests, by file.
func deployments(t *testing.T) map[string]*appsv1.Deployment {
	t.Helper()
	out := map[string]*appsv1.Deployment{}
	for file, object := range objects(t) {
		if d, ok := object.(*appsv1.Deployment); ok {
			out[file] = d
		}
	}
	if len(out) < 2 {
		t.Fatal("both kinds of sidecar must be there")
	}
	return out
}

func TestPodsAreRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for file, d := range deployments(t) {
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &d.Spec.Template.ObjectMeta, &d.Spec.Template.Spec))
		if !result.Allowed {
			t.Errorf("%s: %s", file, result.ForbiddenDetail())
		}
	}
}

func TestObjectsBelongTogether(t *testing.T) {
	all := objects(t)
	namespace := all["namespace.yaml"].GetName()
	secret := all["secret.yaml"].(*corev1.Secret)
	network := all["networkpolicy.yaml"].(*networkingv1.NetworkPolicy)
	for file, object := range all {
		if file != "namespace.yaml" && object.GetNamespace() != namespace {
			t.Errorf("%s: is in namespace %q", file, object.GetNamespace())
		}
	}
	selected, err := metav1.LabelSelectorAsSelector(&network.Spec.PodSelector)
	if err != nil {
		t.Fatal(err)
	}
	for file, d := range deployments(t) {
		pod := labels.Set(d.Spec.Template.Labels)
		own, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
		if err != nil {
			t.Fatal(err)
		}
		if !own.Matches(pod) || !selected.Matches(pod) {
			t.Errorf("%s: the deployment or the network policy does not select the pod", file)
		}
		i := slices.IndexFunc(d.Spec.Template.Spec.Volumes, func(v corev1.Volume) bool { return v.Secret != nil })
		if i < 0 || d.Spec.Template.Spec.Volumes[i].Secret.SecretName != secret.Name {
			t.Errorf("%s: the Secret is not mounted", file)
		}
	}
}

func TestContainersUseTheirVolumes(t *testing.T) {
	for file, d := range deployments(t) {
		spec := d.Spec.Template.Spec
		used := map[string]bool{}
		for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			for _, m := range c.VolumeMounts {
				used[m.Name] = true
				if m.SubPath != "" {
					t.Errorf("%s: %s mounts %s by a subPath, which is never updated", file, c.Name, m.Name)
				}
			}
		}
		for _, v := range spec.Volumes {
			if !used[v.Name] {
				t.Errorf("%s: nobody mounts %s", file, v.Name)
			}
			delete(used, v.Name)
		}
		for name := range used {
			t.Errorf("%s: there is no volume %s", file, name)
		}
	}
}

func TestDaemonAndAgentShareTheSocketAndNothingElse(t *testing.T) {
	for file, d := range deployments(t) {
		spec := d.Spec.Template.Spec
		var daemon, agent corev1.Container
		for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			if c.Name == "grantexd" {
				daemon = c
			} else {
				agent = c
			}
		}
		if *daemon.SecurityContext.RunAsUser == *agent.SecurityContext.RunAsUser {
			t.Errorf("%s: the agent has the daemon's user", file)
		}
		socket := variable(daemon, "GRANTEXD_SOCKET")
		if socket == "" || socket != variable(agent, "GRANTEXD_SOCKET") {
			t.Errorf("%s: daemon and agent name different sockets", file)
		}
		if len(agent.VolumeMounts) != 1 || !agent.VolumeMounts[0].ReadOnly ||
			!strings.HasPrefix(socket, agent.VolumeMounts[0].MountPath+"/") {
			t.Errorf("%s: the agent must see the socket, read-only, and no grant", file)
		}
		if daemon.StartupProbe == nil {
			t.Errorf("%s: without a startup probe nothing waits for the daemon", file)
		}
		if !slices.ContainsFunc(daemon.VolumeMounts, func(m corev1.VolumeMount) bool {
			return strings.HasPrefix(variable(daemon, "GRANTEXD_GRANT_FILE"), m.MountPath+"/")
		}) {
			t.Errorf("%s: the grant file is in no volume", file)
		}
	}
}

func TestNativeSidecarStartsFirstAndStays(t *testing.T) {
	spec := deployments(t)["native-sidecar.yaml"].Spec.Template.Spec
	if len(spec.InitContainers) != 1 || spec.InitContainers[0].Name != "grantexd" ||
		spec.InitContainers[0].RestartPolicy == nil || *spec.InitContainers[0].RestartPolicy != corev1.ContainerRestartPolicyAlways {
		t.Error("grantexd must be an init container that is always restarted")
	}
}

func variable(c corev1.Container, name string) string {
	for _, v := range c.Env {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}
