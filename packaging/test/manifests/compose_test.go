package manifests

import (
	"context"
	"slices"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// project is compose.yaml, checked against the schema and against itself.
func project(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../../compose.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestComposeServicesAreHardened(t *testing.T) {
	for name, s := range project(t).Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s: is not hardened like the others", name)
		}
		if s.NetworkMode == "" || len(s.Ports) > 0 {
			t.Errorf("%s: needs no network of its own", name)
		}
	}
}

func TestComposeAppWaitsForTheDaemonAndSeesOnlyItsSocket(t *testing.T) {
	services := project(t).Services
	app, daemon := services["app"], services["grantexd"]
	if app.DependsOn["grantexd"].Condition != types.ServiceConditionHealthy {
		t.Error("the app does not wait until the daemon is ready")
	}
	if len(app.Volumes) != 1 || app.Volumes[0].Source != "socket" || !app.Volumes[0].ReadOnly {
		t.Errorf("the app sees more than the socket: %v", app.Volumes)
	}
	if app.User == "" || app.User == daemon.User {
		t.Error("the app has the daemon's user")
	}
	if app.NetworkMode != "none" {
		t.Error("the app has a network")
	}
}
