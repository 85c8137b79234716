// Package clock reads the two clocks that decide whether a credential may still
// be served: the wall clock and the boot clock.
//
// It is a package of its own because budget, grant and broker must all read the
// same clocks, and because tests need to step and suspend them, which neither
// the time package nor a testing/synctest bubble can do.
package clock

import (
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Clock tells the time in two ways, which differ after somebody set the wall
// clock. Implementations are safe for concurrent use.
type Clock interface {
	// Now is the wall clock, without a monotonic reading: comparisons of its
	// results see every step that an operator or NTP made.
	Now() time.Time
	// Boot is the time since the machine booted, suspended time included
	// (CLOCK_BOOTTIME, clock_gettime(2)). It never steps.
	Boot() time.Duration
}

// System is the machine's own clock. The zero value is ready to use.
type System struct{}

// Now implements [Clock].
func (System) Now() time.Time { return time.Now().Round(0) }

// Boot implements [Clock].
func (System) Boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Linux has had CLOCK_BOOTTIME since 2.6.39; without it there is no
		// way to tell how old a credential is.
		panic("clock: CLOCK_BOOTTIME: " + err.Error())
	}
	return time.Duration(ts.Nano())
}

// BootID returns the kernel's random id of this boot
// (/proc/sys/kernel/random/boot_id, random(4)), or "" where it can't be read.
// Boot times of different ids can't be compared.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Fake is a clock for tests that follows the time package, and so the virtual
// time of a testing/synctest bubble, plus what [Fake.Step] and [Fake.Suspend]
// added. Make one with [NewFake].
type Fake struct {
	started time.Time

	mu        sync.Mutex // guards the rest
	stepped   time.Duration
	suspended time.Duration
}

// NewFake returns a clock whose boot time starts at one hour, so that a test can
// go back from it.
func NewFake() *Fake { return &Fake{started: time.Now().Add(-time.Hour)} }

// Step sets the wall clock forward by d, or back for a negative d. The boot
// clock and timers don't notice.
func (f *Fake) Step(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stepped += d
}

// Suspend lets the machine sleep for d: both clocks advance, timers do not.
func (f *Fake) Suspend(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.suspended += d
}

// Now implements [Clock].
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Add(f.stepped + f.suspended).Round(0)
}

// Boot implements [Clock].
func (f *Fake) Boot() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.started) + f.suspended
}
