package audit

import (
	"log/slog"
	"sync"

	"github.com/grantexd/grantexd/socketapi/peer"
)

// maxCredentials is of how many credentials a connection's releases are counted
// at once. A caller that reads more of them in turns is written down more
// often, as it would be with a connection for each.
const maxCredentials = 64

// Connection records what one connection gets. It is safe for concurrent use.
type Connection struct {
	log    *Log
	id     *peer.Identity
	number uint64

	// mu guards the rest. Nobody else wants it but Run, once an interval and
	// for no longer than it takes to look, so that it costs a release hardly more
	// than an atomic add would.
	mu     sync.Mutex
	last   *count // of the latest release
	counts map[credential]*count
	caller []slog.Attr // of every line; made for the first and never changed
	closed bool
}

// Release is a credential that is about to be handed out.
type Release struct {
	// Service is the service's name.
	Service string
	// Fingerprint is the credential's, the ETag without its quotes.
	Fingerprint string
	// Exchange is the daemon's id of the exchange that the credential came
	// from.
	Exchange string
	// Hit says that no exchange was made or waited for.
	Hit bool
}

type credential struct{ service, fingerprint string }

// count is how often a credential was released since the last line about it.
type count struct {
	credential
	exchange     string
	hits, misses uint64
}

func (n *count) is(r *Release) bool {
	return n.service == r.Service && n.fingerprint == r.Fingerprint && n.exchange == r.Exchange
}

func (n *count) add(hit bool) {
	if hit {
		n.hits++
	} else {
		n.misses++
	}
}

// Released records a release. Call it before the credential is sent: an error,
// which only a Required log returns, means that it must not be.
func (c *Connection) Released(r Release) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	// While a Required log fails, each release has to prove that it can be
	// recorded, and the first that can ends the failure. After Close, nobody
	// would write a count any more.
	own := c.closed || c.log.required && c.log.failing.Load()
	if n := c.last; n != nil && n.is(&r) && !own {
		n.add(r.Hit)
		return nil
	}
	return c.releasedAnew(&r, own)
}

// releasedAnew records a release that is not of the same credential as the
// latest, or that needs a line of its own. c.mu must be held: it stays so while
// the line is written, lest another release be counted by a line that then
// fails.
func (c *Connection) releasedAnew(r *Release, own bool) error {
	n := c.counts[credential{r.Service, r.Fingerprint}]
	if n != nil && n.exchange != r.Exchange {
		c.write(n.take(nil))
		n.exchange = r.Exchange
	}
	if n != nil && !own {
		n.add(r.Hit)
		c.last = n
		return nil
	}
	err := c.log.write(slog.LevelInfo, "credential released", c.callerAttrs(),
		credentialAttrs(r.Service, r.Fingerprint, r.Exchange), []slog.Attr{slog.Bool("hit", r.Hit)})
	if err != nil && c.log.required {
		return err
	}
	// A line that is lost otherwise is made up for by the counts to come, which
	// say all that it did.
	if n == nil {
		n = c.insert(r)
	}
	c.last = n
	return nil
}

// insert makes room for a credential's count, and starts it. c.mu must be held.
func (c *Connection) insert(r *Release) *count {
	if len(c.counts) >= maxCredentials {
		c.write(c.takeAll())
		clear(c.counts)
	}
	if c.counts == nil {
		c.counts = make(map[credential]*count)
		if !c.closed {
			c.log.register(c)
		}
	}
	n := &count{credential: credential{r.Service, r.Fingerprint}, exchange: r.Exchange}
	c.counts[n.credential] = n
	return n
}

// take moves what was counted to due.
func (n *count) take(due []count) []count {
	if n.hits+n.misses == 0 {
		return due
	}
	due = append(due, *n)
	n.hits, n.misses = 0, 0
	return due
}

// takeAll returns what was counted of all credentials. c.mu must be held.
func (c *Connection) takeAll() []count {
	var due []count
	for _, n := range c.counts {
		due = n.take(due)
	}
	return due
}

// Denied records that the access rules refused the caller a service, "" if it
// never came to say which.
func (c *Connection) Denied(service string) { c.log.denied(c.id, service) }

// Close writes what is still to be counted.
func (c *Connection) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		c.log.unregister(c)
		c.write(c.takeAll())
	}
}

// flush writes what was counted since the last time. Releases don't wait for the
// disk meanwhile.
func (c *Connection) flush() {
	c.mu.Lock()
	due := c.takeAll()
	c.mu.Unlock()
	c.write(due)
}

// write writes counts. There are none before the first line, with which caller
// was set.
func (c *Connection) write(due []count) {
	for _, n := range due {
		attrs := []slog.Attr{slog.Uint64("count", n.hits+n.misses)}
		if n.hits > 0 {
			attrs = append(attrs, slog.Uint64("hits", n.hits))
		}
		if n.misses > 0 {
			attrs = append(attrs, slog.Uint64("misses", n.misses))
		}
		// A failure is said by the log itself; there is nobody to refuse any
		// more what was released.
		_ = c.log.write(slog.LevelInfo, "credential released again", c.caller,
			credentialAttrs(n.service, n.fingerprint, n.exchange), attrs)
	}
}

// callerAttrs describes the connection. c.mu must be held.
func (c *Connection) callerAttrs() []slog.Attr {
	if c.caller == nil {
		c.caller = append([]slog.Attr{slog.Uint64("connection", c.number)}, identityAttrs(c.id)...)
	}
	return c.caller
}

// register makes Run write the connection's counts.
func (l *Log) register(c *Connection) {
	l.liveMu.Lock()
	defer l.liveMu.Unlock()
	l.live[c] = struct{}{}
}

func (l *Log) unregister(c *Connection) {
	l.liveMu.Lock()
	defer l.liveMu.Unlock()
	delete(l.live, c)
}
