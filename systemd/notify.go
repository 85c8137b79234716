package systemd

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/coreos/go-systemd/v22/daemon"
)

// maxStatus bounds a status text, in bytes. The manager drops a notification of
// more than 4096 bytes (PIPE_BUF, sd_notify(3)) whole, readiness included, and
// nobody reads this much on one line.
const maxStatus = 1024

// Notifier tells the service manager how the service is (sd_notify(3)). The zero
// value is ready to use. Outside systemd, where $NOTIFY_SOCKET is unset, its
// methods do nothing and return nil; an error means that the manager could not
// be told, and is no reason to stop serving.
type Notifier struct{}

// Ready says that the service answers: at the end of its start, and after
// [Notifier.Reloading] once the new configuration holds. The status is shown by
// systemctl; it may be empty.
func (Notifier) Ready(status string) error {
	return notify(daemon.SdNotifyReady + "\n" + statusLine(status))
}

// Status replaces the line that systemctl status shows. It must hold no secret:
// every user of the machine can read it.
func (Notifier) Status(status string) error {
	return notify(statusLine(status))
}

// Reloading says that the configuration is being read again. The time that goes
// with it is what Type=notify-reload asks for (systemd 253); older ones ignore
// it. The service must call [Notifier.Ready] when it is done, a failed reload
// included.
func (Notifier) Reloading() error {
	return notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// Stopping says that the service has begun to shut down.
func (Notifier) Stopping() error {
	return notify(daemon.SdNotifyStopping)
}

func notify(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}

// statusLine renders the assignment of a status text. A line break in it would
// begin another assignment, such as READY=1, and invalid UTF-8 makes the manager
// ignore the text, so neither is let through.
func statusLine(status string) string {
	status = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(status, "?"))
	if len(status) > maxStatus {
		status = strings.ToValidUTF8(status[:maxStatus], "")
	}
	return "STATUS=" + status
}
