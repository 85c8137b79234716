package budget

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"strings"
	"time"
)

// recordName and recordVersion begin the head line. Another version counts as
// garbage.
const (
	recordName    = "grantexd-ledger"
	recordVersion = "1"
)

// page is the size that a ledger is padded to a multiple of. The kernel copies
// one page without looking for a signal in between, so a ledger of one page,
// which is enough for some 50 departures, is never written halfway by a process
// that is killed. Beyond it, the checksum tells.
const page = 4096

// maxRecord bounds what is read of a ledger.
const maxRecord = 64 * page

// What a ledger's content can be instead of a record.
var (
	errEmpty   = errors.New("it is empty")
	errGarbage = errors.New("it is damaged or no ledger")
	errVersion = errors.New("another version of the program wrote it")
)

// record is the ledger's content: one line with version, length and checksum,
// then JSON, then spaces up to the end of the page. It holds no secret.
type record struct {
	// BootID is the boot that the boot times are of, "" if it is not known.
	BootID string `json:"boot_id"`
	// BootNanos and WallNanos are both clocks as the record was written.
	// Together they place every other time on the wall clock, for a reader
	// after a reboot.
	BootNanos int64 `json:"boot_ns"`
	WallNanos int64 `json:"wall_unix_ns"`

	Departures   []departureRecord `json:"departures"`
	Learned      *lessonRecord     `json:"learned,omitempty"`
	BlockedNanos int64             `json:"blocked_until_ns,omitempty"`
}

type departureRecord struct {
	ID           string `json:"id"`
	LeftNanos    int64  `json:"left_ns"`
	ReleaseNanos int64  `json:"release_ns"`
}

type lessonRecord struct {
	Remaining  int   `json:"remaining"`
	Others     int   `json:"others"`
	AsOfNanos  int64 `json:"as_of_ns"`
	UntilNanos int64 `json:"until_ns"`
}

// moment is a point in time on both clocks, and the boot it belongs to.
type moment struct {
	bootID string
	boot   time.Duration
	wall   time.Time
}

// encode returns the ledger's content for w at m.
func encode(w *window, m moment) ([]byte, error) {
	r := record{
		BootID:       m.bootID,
		BootNanos:    int64(m.boot),
		WallNanos:    m.wall.UnixNano(),
		Departures:   make([]departureRecord, 0, len(w.slots)),
		BlockedNanos: int64(w.blocked),
	}
	for _, s := range w.slots {
		r.Departures = append(r.Departures, departureRecord{s.id, int64(s.left), int64(s.release)})
	}
	if l := w.learned; l != (lesson{}) {
		r.Learned = &lessonRecord{l.remaining, l.others, int64(l.asOf), int64(l.until)}
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding the ledger: %w", err)
	}
	return frame(body), nil
}

// frame puts the head line before body and pads both to whole pages.
func frame(body []byte) []byte {
	content := fmt.Appendf(make([]byte, 0, page), "%s %s %d %s\n", recordName, recordVersion, len(body), checksum(body))
	content = append(content, body...)
	content = append(content, '\n')
	if rest := len(content) % page; rest > 0 {
		content = append(content, bytes.Repeat([]byte{' '}, page-rest)...)
	}
	return content
}

// checksum tells a record from one that was written halfway.
func checksum(body []byte) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE(body)) }

// decode reads a ledger's content. Its errors say what it is instead.
func decode(content []byte) (record, error) {
	if len(content) == 0 {
		return record{}, errEmpty
	}
	head, rest, found := bytes.Cut(content, []byte{'\n'})
	fields := strings.Fields(string(head[:min(len(head), 64)]))
	if !found || len(fields) < 2 || fields[0] != recordName {
		return record{}, errGarbage
	}
	if fields[1] != recordVersion {
		return record{}, errVersion
	}
	if len(fields) != 4 {
		return record{}, errGarbage
	}
	length, err := strconv.ParseUint(fields[2], 10, 31)
	if err != nil || int(length) > len(rest) || fields[3] != checksum(rest[:length]) {
		return record{}, errGarbage
	}
	var r record
	if err := json.Unmarshal(rest[:length], &r); err != nil {
		return record{}, errGarbage
	}
	return r, nil
}

// sameBoot reports whether the record's boot times are of m's boot.
func (r *record) sameBoot(m moment) bool {
	if r.BootID != "" && m.bootID != "" {
		return r.BootID == m.bootID
	}
	// One of the two can't read the id, as in a unit with ProcSubset=pid. If
	// the two clocks went on by the same time, no reboot lies between.
	boot := elapsed(r.BootNanos, int64(m.boot))
	wall := elapsed(r.WallNanos, m.wall.UnixNano())
	return boot >= 0 && (boot-wall).Abs() < 5*time.Second
}

// window returns what the record says at m, and whether it was of another boot,
// so that it must be rewritten. Nothing in it is believed beyond what a budget
// with the limits l could have written.
func (r *record) window(m moment, l Limits) (w window, otherBoot bool) {
	if r.sameBoot(m) {
		w = r.sameBootWindow(m, l)
	} else {
		w, otherBoot = r.otherBootWindow(m, l), true
	}
	w.prune(m.boot)
	return w, otherBoot
}

// future is how far ahead of the clock a departure may seem to have left: those of
// one moment are numbered in nanoseconds.
const future = time.Millisecond

func (r *record) sameBootWindow(m moment, l Limits) window {
	w := window{blocked: min(time.Duration(r.BlockedNanos), m.boot+l.MaxBlock)}
	for _, d := range r.Departures {
		left := min(max(0, time.Duration(d.LeftNanos)), m.boot+future)
		release := max(time.Duration(d.ReleaseNanos), left-future+l.hold())
		w.slots = append(w.slots, slot{id: d.ID, left: left, release: min(release, m.boot+future+l.holdUnanswered())})
	}
	if r.Learned != nil {
		w.learned = lesson{
			remaining: max(0, r.Learned.Remaining),
			others:    max(0, r.Learned.Others),
			asOf:      min(time.Duration(r.Learned.AsOfNanos), m.boot+future),
			until:     min(time.Duration(r.Learned.UntilNanos), m.boot+l.MaxBlock),
		}
	}
	return w
}

// otherBootWindow places the record's times by the wall clock. Departures that
// are not over by it count as if they had just been answered, since it may have
// been set; those that were in flight as the machine went down, longer.
func (r *record) otherBootWindow(m moment, l Limits) window {
	since := max(0, elapsed(r.WallNanos, m.wall.UnixNano())) // a clock that was set back shows nothing
	left := func(nanos int64) time.Duration { return elapsed(r.BootNanos, nanos) - since }

	var w window
	for _, d := range r.Departures {
		rest := max(left(d.ReleaseNanos), left(d.LeftNanos)+l.hold())
		if rest <= 0 {
			continue
		}
		rest = min(max(rest, l.hold()), l.holdUnanswered())
		w.slots = append(w.slots, slot{id: d.ID, left: m.boot, release: m.boot + rest})
	}
	if rest := left(r.BlockedNanos); r.BlockedNanos != 0 && rest > 0 {
		w.blocked = m.boot + min(rest, l.MaxBlock)
	}
	if r.Learned == nil {
		return w
	}
	if rest := left(r.Learned.UntilNanos); rest > 0 {
		remaining := r.Learned.Remaining
		for _, d := range r.Departures {
			if d.LeftNanos > r.Learned.AsOfNanos {
				remaining--
			}
		}
		w.learned = lesson{
			remaining: max(0, remaining),
			others:    max(0, r.Learned.Others),
			asOf:      m.boot,
			until:     m.boot + min(rest, l.MaxBlock),
		}
	}
	return w
}

// full is the window of a ledger that can't be read, since seen first: nothing
// may leave for as long as a departure counts.
func full(seen time.Duration, l Limits) window {
	var w window
	for i := range l.Limit {
		w.slots = append(w.slots, slot{id: fmt.Sprintf("unknown-%d", i), left: seen, release: seen + l.hold()})
	}
	return w
}

// elapsed is the time from one count of nanoseconds to another, both of which
// may be garbage, bounded so that sums of it can't overflow.
func elapsed(from, to int64) time.Duration {
	const most = math.MaxInt64 / 8
	d := to - from
	switch {
	case to >= from && (d < 0 || d > most):
		return most
	case to < from && (d >= 0 || d < -most):
		return -most
	}
	return time.Duration(d)
}
