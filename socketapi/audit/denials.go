package audit

import (
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/grantexd/grantexd/socketapi/peer"
)

const (
	// maxDenied is for how many callers denials are counted at once. All
	// others are counted together: with user namespaces a caller may have as
	// many uids as it likes.
	maxDenied = 64
	// maxServices is how many of the services that a caller was denied are
	// named in a count.
	maxServices = 8
)

// denials are what was denied since the last count.
type denials struct {
	mu       sync.Mutex // guards the rest
	byCaller map[string]*denied
	others   uint64
}

// denied is what one caller was denied since its last line.
type denied struct {
	count    uint64
	services map[string]struct{}
	more     bool // services that are not named
}

// denied records a denial: a line at once if the caller was not denied anything
// for an interval, else a count.
func (l *Log) denied(id *peer.Identity, service string) {
	service = printable(service)
	if !l.denials.add(id.Principal(), service) {
		return
	}
	// A failure is said by the log itself, and a denial needs no record to be
	// one.
	_ = l.write(slog.LevelWarn, "credential denied", identityAttrs(id), []slog.Attr{slog.String("service", service)})
}

// add counts a denial, and reports whether it has to be written at once.
func (d *denials) add(principal, service string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	of := d.byCaller[principal]
	switch {
	case of != nil:
		of.count++
		of.name(service)
		return false
	case len(d.byCaller) >= maxDenied:
		d.others++
		return false
	}
	if d.byCaller == nil {
		d.byCaller = make(map[string]*denied)
	}
	d.byCaller[principal] = &denied{services: make(map[string]struct{})}
	return true
}

func (of *denied) name(service string) {
	if _, known := of.services[service]; known {
		return
	}
	if len(of.services) >= maxServices {
		of.more = true
		return
	}
	of.services[service] = struct{}{}
}

// take returns what was counted, and forgets callers that were not denied
// anything since the last time.
func (d *denials) take() (byCaller map[string]denied, others uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	byCaller = make(map[string]denied)
	for principal, of := range d.byCaller {
		if of.count == 0 {
			delete(d.byCaller, principal)
			continue
		}
		byCaller[principal] = *of
		*of = denied{services: make(map[string]struct{})}
	}
	others, d.others = d.others, 0
	return byCaller, others
}

func (l *Log) flushDenials() {
	byCaller, others := l.denials.take()
	for _, principal := range slices.Sorted(maps.Keys(byCaller)) {
		of := byCaller[principal]
		services := slices.Sorted(maps.Keys(of.services))
		if of.more {
			services = append(services, "…")
		}
		_ = l.write(slog.LevelWarn, "credential denied again", []slog.Attr{
			slog.String("principal", principal), slog.Uint64("count", of.count), slog.Any("services", services),
		})
	}
	if others > 0 {
		_ = l.write(slog.LevelWarn, "credentials denied to further callers", []slog.Attr{slog.Uint64("count", others)})
	}
}
