package devvault

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// FaultKind names one way to misbehave.
type FaultKind string

// The ways to misbehave. Which fields of a [Fault] each one reads is said with
// it; a field that a kind does not read must be zero.
const (
	// FaultLatency answers after Delay, which is required.
	FaultLatency FaultKind = "latency"
	// FaultHang answers after Delay or, without one, only when the fault is
	// removed, as the vault does when its database is frozen.
	FaultHang FaultKind = "hang"
	// FaultStatus answers with Status (503 without one), in the vault's error
	// shape, or with Body as a proxy's page.
	FaultStatus FaultKind = "status"
	// FaultUnauthorized answers 401, in the shape that As names.
	FaultUnauthorized FaultKind = "unauthorized"
	// FaultRateLimit answers 429 and asks to come back after RetryAfter, which
	// is required.
	FaultRateLimit FaultKind = "rate-limit"
	// FaultMalformed answers 200 with Body, or with something that is not JSON.
	FaultMalformed FaultKind = "malformed"
	// FaultOversize pads the body of the answer to Size bytes (2 MiB without
	// one); it stays well formed.
	FaultOversize FaultKind = "oversize"
	// FaultTruncate closes the connection in the middle of the body.
	FaultTruncate FaultKind = "truncate"
	// FaultReset resets the connection instead of answering. The call has been
	// carried out and counted.
	FaultReset FaultKind = "reset"
	// FaultSlow waits for Delay (10 ms without one) before each byte of the
	// body.
	FaultSlow FaultKind = "slow"
)

// The shapes of a 401, for [Fault].As.
const (
	AsGrantToken = "grant-token" // "Invalid or expired grant token", the default
	AsMissing    = "missing"     // "Missing grant token"
	AsAPIKey     = "api-key"     // "Invalid API key", as a wrong path has it
	AsProxy      = "proxy"       // not the vault's shape at all
)

// The calls that a fault can apply to, for [Fault].On.
const (
	OnExchange  = "exchange"  // the default
	OnDeveloper = "developer" // store, list, get and delete
	OnHealth    = "health"
	OnAll       = "all" // every path, the signing keys and wrong ones included
)

// Fault is one misbehaviour. Several can be active: delays add up, the first one
// that replaces the answer does, and what happens on its way (oversize,
// truncate, slow, reset) comes on top.
type Fault struct {
	// Kind is required.
	Kind FaultKind
	// On says which calls it applies to; "" means [OnExchange].
	On string
	// Service restricts it to exchanges for this service; "" means all.
	Service string
	// Times is how many calls it applies to before it is spent; zero means
	// all of them.
	Times int
	// Share of the calls it applies to, above 0 and up to 1; zero means 1.
	// They are spread evenly and not at random, so that a test can count
	// them: with 0.25, each fourth call.
	Share float64
	// Delay is how long latency, hang and slow take.
	Delay time.Duration
	// CountLate makes the vault count a call that was delayed by latency or
	// hang only when the delay is over, even if the caller has left by then.
	// Without it, calls count as they arrive.
	CountLate bool
	// Status is the status to answer with.
	Status int
	// Body is sent as it stands in place of the vault's own.
	Body string
	// As is the shape of a 401.
	As string
	// RetryAfter is what a 429 asks for, in whole seconds, rounded up.
	RetryAfter time.Duration
	// Size is the size of an oversized body in bytes.
	Size int
}

const (
	defaultOversize = 2 << 20
	maxOversize     = 256 << 20
	defaultSlow     = 10 * time.Millisecond
	// maxFaults keeps a test that never clears its faults from slowing down
	// every call.
	maxFaults = 1000
)

// check reports what is wrong with f.
func (f Fault) check() error {
	type field struct {
		name string
		set  bool
		used []FaultKind
	}
	fields := []field{
		{"delay", f.Delay != 0, []FaultKind{FaultLatency, FaultHang, FaultSlow}},
		{"countLate", f.CountLate, []FaultKind{FaultLatency, FaultHang}},
		{"status", f.Status != 0, []FaultKind{FaultStatus}},
		{"body", f.Body != "", []FaultKind{FaultStatus, FaultMalformed}},
		{"as", f.As != "", []FaultKind{FaultUnauthorized}},
		{"retryAfter", f.RetryAfter != 0, []FaultKind{FaultRateLimit}},
		{"size", f.Size != 0, []FaultKind{FaultOversize}},
	}
	for _, one := range fields {
		if one.set && !slices.Contains(one.used, f.Kind) {
			return fmt.Errorf("a fault of kind %q has no %s", f.Kind, one.name)
		}
	}
	switch {
	case !slices.Contains(kinds, f.Kind):
		return fmt.Errorf("kind %q is none of %q", f.Kind, kinds)
	case !slices.Contains([]string{"", OnExchange, OnDeveloper, OnHealth, OnAll}, f.On):
		return fmt.Errorf("on %q is none of exchange, developer, health and all", f.On)
	case f.Service != "" && f.On != "" && f.On != OnExchange:
		return errors.New("only exchanges have a service")
	case f.Times < 0:
		return errors.New("times is negative")
	case f.Share < 0 || f.Share > 1:
		return errors.New("share is not between 0 and 1")
	case f.Delay < 0 || f.RetryAfter < 0:
		return errors.New("delay and retryAfter can't be negative")
	}
	return f.checkKind()
}

var kinds = []FaultKind{
	FaultLatency, FaultHang, FaultStatus, FaultUnauthorized, FaultRateLimit,
	FaultMalformed, FaultOversize, FaultTruncate, FaultReset, FaultSlow,
}

func (f Fault) checkKind() error {
	switch {
	case f.Kind == FaultLatency && f.Delay == 0:
		return errors.New("latency needs a delay")
	case f.Kind == FaultRateLimit && f.RetryAfter == 0:
		return errors.New("rate-limit needs a retryAfter")
	case f.Kind == FaultStatus && f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return errors.New("status is not between 200 and 599")
	case f.Size < 0 || f.Size > maxOversize:
		return fmt.Errorf("size is not between 0 and %d", maxOversize)
	case f.Kind == FaultUnauthorized && !slices.Contains([]string{"", AsGrantToken, AsMissing, AsAPIKey, AsProxy}, f.As):
		return fmt.Errorf("as %q is none of grant-token, missing, api-key and proxy", f.As)
	}
	return nil
}

// ActiveFault is a fault that was added and not yet removed.
type ActiveFault struct {
	Fault
	// ID is what removes it.
	ID int
	// Applied is how many calls it has applied to.
	Applied int
}

// faultSet holds the active faults, in the order in which they were added.
type faultSet struct {
	mu     sync.Mutex // guards the rest
	lastID int
	active []*activeFault
}

type activeFault struct {
	ActiveFault
	share   float64       // what Share has added up to since the last call it applied to
	removed chan struct{} // closed when the fault is removed: hung calls go on
}

func (s *faultSet) add(f Fault) (int, error) {
	if err := f.check(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.active) >= maxFaults {
		return 0, fmt.Errorf("%d faults are active or spent: remove some", maxFaults)
	}
	s.lastID++
	s.active = append(s.active, &activeFault{
		ActiveFault: ActiveFault{Fault: f, ID: s.lastID},
		removed:     make(chan struct{}),
	})
	return s.lastID, nil
}

// remove ends one fault and lets the calls go on that hang in it.
func (s *faultSet) remove(id int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.active {
		if f.ID == id {
			close(f.removed)
			s.active = slices.Delete(s.active, i, i+1)
			return true
		}
	}
	return false
}

// clear ends all faults.
func (s *faultSet) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.active {
		close(f.removed)
	}
	s.active = nil
}

func (s *faultSet) list() []ActiveFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]ActiveFault, 0, len(s.active))
	for _, f := range s.active {
		all = append(all, f.ActiveFault)
	}
	return all
}

// take returns what happens to one call, and counts it.
func (s *faultSet) take(group, service string) mishap {
	s.mu.Lock()
	defer s.mu.Unlock()
	var m mishap
	for _, f := range s.active {
		if f.applies(group, service) {
			f.Applied++
			m.add(f)
		}
	}
	return m
}

// applies decides whether f applies to this call; it is called once for each.
func (f *activeFault) applies(group, service string) bool {
	on := f.On
	if on == "" {
		on = OnExchange
	}
	switch {
	case on != OnAll && on != group,
		f.Service != "" && (group != OnExchange || f.Service != service),
		f.Times > 0 && f.Applied >= f.Times:
		return false
	case f.Share == 0:
		return true
	}
	f.share += f.Share
	// Ten times 0.1 is a little less than 1.
	if f.share < 1-1e-9 {
		return false
	}
	f.share--
	return true
}

// mishap is all that happens to one call.
type mishap struct {
	late, delays []stall
	replacement  *Fault // nil: the vault's own answer
	oversize     int    // zero: no
	truncate     bool
	reset        bool
	slow         time.Duration // zero: no
}

// stall is one delay.
type stall struct {
	delay   time.Duration // zero: without end
	removed <-chan struct{}
}

func (m *mishap) add(f *activeFault) {
	switch f.Kind {
	case FaultLatency, FaultHang:
		one := stall{delay: f.Delay, removed: f.removed}
		if f.CountLate {
			m.late = append(m.late, one)
		} else {
			m.delays = append(m.delays, one)
		}
	case FaultOversize:
		m.oversize = f.Size
		if f.Size == 0 {
			m.oversize = defaultOversize
		}
	case FaultTruncate:
		m.truncate = true
	case FaultReset:
		m.reset = true
	case FaultSlow:
		m.slow += f.Delay
		if f.Delay == 0 {
			m.slow += defaultSlow
		}
	default:
		if m.replacement == nil {
			m.replacement = &f.Fault
		}
	}
}

// answer is what f answers in the vault's place to a call of group. q is what
// the call was counted as.
func (f Fault) answer(group string, q *quota) answer {
	switch f.Kind {
	case FaultUnauthorized:
		return f.unauthorized(q)
	case FaultRateLimit:
		refused := quota{reset: f.RetryAfter, exceeded: true}
		if q != nil {
			refused.limit = q.limit
		}
		a := tooManyRequests(refused)
		a.quota = &refused
		return a
	case FaultMalformed:
		a := answer{status: http.StatusOK, body: []byte("this is not JSON"), quota: q}
		if f.Body != "" {
			a.body = []byte(f.Body)
		}
		return a
	}
	status := f.Status
	if status == 0 {
		status = http.StatusServiceUnavailable
	}
	switch {
	case f.Body != "":
		return answer{status: status, body: []byte(f.Body), contentType: "text/html", foreign: true}
	case status == http.StatusNoContent || status == http.StatusNotModified:
		return answer{status: status, quota: q} // these have no body
	case group == OnHealth:
		return healthAnswer(status)
	}
	a := errorAnswer(status, codeOf(status), messageOf(status))
	a.quota = q
	return a
}

func (f Fault) unauthorized(q *quota) answer {
	a := invalidGrantToken()
	switch f.As {
	case AsMissing:
		a = missingGrantToken()
	case AsAPIKey:
		a = invalidAPIKey() // from a wrong path, which has no rate limit
		q = nil
	case AsProxy:
		return answer{
			status: http.StatusUnauthorized, body: []byte("<html><h1>401 Unauthorized</h1></html>\n"),
			contentType: "text/html", foreign: true,
		}
	}
	a.quota = q
	return a
}

// codeOf is the code that the vault's error handler gives to a status.
func codeOf(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return codeUnauthorized
	case status == http.StatusForbidden:
		return codeForbidden
	case status == http.StatusNotFound:
		return codeNotFound
	case status >= 400 && status < 500:
		return codeBadRequest
	}
	return codeInternal
}

func messageOf(status int) string {
	if status >= 500 {
		return "An unexpected error occurred"
	}
	return "Request failed"
}
