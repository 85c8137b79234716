package systemd

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childRole tells the test binary that it is the service and not the test.
const childRole = "SYSTEMD_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childRole) != "" {
		os.Exit(runChild())
	}
	goleak.VerifyTestMain(m)
}
