package broker

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/grantexd/grantexd/upstream"
)

// held is a credential in the cache. It is immutable but for its atomics; each
// exchange makes a new one.
type held struct {
	cred        *upstream.Credential
	rendered    any
	fingerprint string
	exchange    string
	// epoch is the purge count at which it was stored: of another epoch, it
	// belongs to another consent.
	epoch uint64
	// storedAt is when the vault last answered with it.
	storedAt time.Duration
	// bootDeadline is from when on it is not served, by the boot clock.
	bootDeadline time.Duration
	// wallDeadline is the same for the wall clock and for the vault's clock, in
	// Unix nanoseconds; 0 for a credential without expiry.
	wallDeadline int64
	// freshUntil is until when it counts as fresh: bootDeadline, unless it has
	// no expiry.
	freshUntil time.Duration
	// refreshAt is from when on it is exchanged again if it is read; 0 for never.
	refreshAt time.Duration
	// renewAt is from when on the vault is expected to have a new token for it:
	// refreshAt, unless it is to be exchanged earlier for another reason.
	renewAt time.Duration
	// stuck says that a refresh that was due brought the same token again.
	stuck bool

	// lastRead is the boot time of the last read, 0 if it never was.
	lastRead atomic.Int64
}

// readSinceStored reports whether anybody read it since the vault last answered
// with it. The caller that waited for that answer counts.
func (h *held) readSinceStored() bool { return time.Duration(h.lastRead.Load()) >= h.storedAt }

// ttl is how long it is fresh, which it is no longer than the grant lives.
func (h *held) ttl(g *gate, now time.Duration) time.Duration {
	if g.wallDeadline == 0 {
		return h.freshUntil - now
	}
	return min(h.freshUntil, g.bootDeadline) - now
}

// copy returns a copy of h that may be changed before it is published.
func (h *held) copy() *held {
	c := &held{
		cred: h.cred, rendered: h.rendered, fingerprint: h.fingerprint, exchange: h.exchange, epoch: h.epoch,
		storedAt: h.storedAt, bootDeadline: h.bootDeadline, wallDeadline: h.wallDeadline,
		freshUntil: h.freshUntil, refreshAt: h.refreshAt, renewAt: h.renewAt, stuck: h.stuck,
	}
	c.lastRead.Store(h.lastRead.Load())
	return c
}

// clocks is one reading of every clock that may call a credential expired.
type clocks struct {
	boot time.Duration
	wall int64 // Unix nanoseconds
	// vault is the vault's own time in Unix nanoseconds, 0 if it is not known.
	vault int64
}

// servable reports whether no clock calls the credential expired.
func (h *held) servable(c clocks) bool {
	if c.boot >= h.bootDeadline {
		return false
	}
	return h.wallDeadline == 0 || c.wall < h.wallDeadline && c.vault < h.wallDeadline
}

// clocks reads all clocks.
func (b *Broker) clocks() clocks {
	c := clocks{boot: b.clock.Boot(), wall: b.clock.Now().UnixNano()}
	if ahead := b.vaultClock.Load(); ahead != 0 {
		c.vault = int64(c.boot) + ahead
	}
	return c
}

const (
	// farAway is as far ahead as an expiry is reckoned with. "Never" is often
	// written as the year 9999, and sums of such times overflow.
	farAway = 10 * 365 * 24 * time.Hour
	// lastSecond is the Unix time, in the year 2242, beyond which all times are
	// one: nanoseconds since 1970 end soon after it.
	lastSecond = 1 << 33
)

// unixNano returns t in Unix nanoseconds. It is never 0, which stands for no
// time.
func unixNano(t time.Time) int64 {
	return max(time.Unix(min(max(t.Unix(), 0), lastSecond), int64(t.Nanosecond())).UnixNano(), 1)
}

// noteVaultClock remembers what the vault's Date header said in the answer to a
// departure. The header was written at some time between the two, so the vault's
// clock is that far ahead of it at most: nothing may be served that it calls
// expired. The header's resolution of one second is covered by the expiry
// margin. b.mu is held.
func (b *Broker) noteVaultClock(date time.Time, latency, boot time.Duration) {
	if s := date.Unix(); s <= 0 || s > lastSecond {
		return
	}
	b.vaultClock.Store(date.UnixNano() + int64(latency-boot))
	b.vaultLatency = latency
}

// remaining returns how long cred has to live: by the wall clock, and by the
// vault's clock (the same if that is not known).
func (b *Broker) remaining(cred *upstream.Credential) (wall, vault time.Duration) {
	c := b.clocks()
	wall = min(cred.TokenExpiresAt.Sub(time.Unix(0, c.wall)), farAway)
	if c.vault == 0 {
		return wall, wall
	}
	return wall, min(cred.TokenExpiresAt.Sub(time.Unix(0, c.vault)), farAway)
}

// newHeld makes what is to be cached for s of cred, which the caller has found
// to be unexpired. b.mu is held.
func (b *Broker) newHeld(s *service, cred *upstream.Credential, now time.Duration) *held {
	prev := s.held
	h := &held{
		cred: cred, epoch: b.epoch, storedAt: now,
		fingerprint: b.fingerprint(cred.AccessToken), exchange: b.newExchangeID(),
	}
	h.rendered = b.render(cred, h.fingerprint)
	if prev != nil {
		h.lastRead.Store(prev.lastRead.Load())
	}
	if cred.TokenExpiresAt.IsZero() {
		h.bootDeadline = now + b.tunables.StaleWithoutExpiry
		h.freshUntil = min(now+b.freshWithoutExpiry(s), h.bootDeadline)
		h.refreshAt = h.freshUntil
		return h
	}
	wall, vault := b.remaining(cred)
	life := min(wall, vault)
	h.bootDeadline = now + life - b.tunables.ExpiryMargin
	h.wallDeadline = unixNano(cred.TokenExpiresAt.Add(-b.tunables.ExpiryMargin))
	h.freshUntil = h.bootDeadline
	if prev != nil && prev.renewAt != 0 && sameToken(prev.cred, cred) {
		b.keepRefresh(h, prev, life, now)
	} else {
		h.refreshAt = b.refreshTime(life, now)
	}
	h.renewAt = h.refreshAt
	return h
}

// keepRefresh plans the refresh of a credential that came again unchanged: as
// before if it was not due yet; else the vault's owner is late with the new one,
// and it is looked for again after half of what remains.
func (b *Broker) keepRefresh(h, prev *held, life, now time.Duration) {
	if now < prev.renewAt {
		h.refreshAt, h.stuck = max(prev.renewAt, now+b.tunables.ExchangeSpacing), prev.stuck
		return
	}
	h.stuck = true
	h.refreshAt = now + max(life/2, b.tunables.ExchangeSpacing)
}

func sameToken(a, b *upstream.Credential) bool {
	return a.AccessToken == b.AccessToken && a.TokenExpiresAt.Equal(b.TokenExpiresAt)
}

// refreshTime returns when a credential with that much life is to be refreshed,
// 0 for never.
func (b *Broker) refreshTime(life, now time.Duration) time.Duration {
	t := b.tunables
	if life < t.RefreshMinLife {
		return 0
	}
	lead := time.Duration(t.RefreshFraction * float64(life))
	lead = min(max(lead, t.RefreshLeadMin), t.RefreshLeadMax, life/2)
	return max(now+life-jitter(lead, 0.1), now+t.ExchangeSpacing)
}

// jitter spreads d by the given part of it, so that what was stored together is
// not asked for together.
func jitter(d time.Duration, part float64) time.Duration {
	return time.Duration(float64(d) * (1 + part*(2*rand.Float64()-1)))
}

// freshWithoutExpiry is how long a credential without expiry that is about to be
// held for s counts as fresh: longer than configured if there are more of them
// than can be revalidated in that time. b.mu is held.
func (b *Broker) freshWithoutExpiry(s *service) time.Duration {
	n := 1
	for _, other := range b.services {
		if other != s && other.held != nil && other.held.wallDeadline == 0 {
			n++
		}
	}
	turn := time.Duration(n) * b.tunables.SlotReturn / time.Duration(b.tunables.BackgroundSlots)
	return max(b.tunables.FreshWithoutExpiry, turn)
}
