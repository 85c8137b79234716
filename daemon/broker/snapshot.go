package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/clock"
	"github.com/grantexd/grantexd/upstream/secret"
)

// snapshotVersion changes with the meaning of a snapshot's fields; another one
// is not restored.
const snapshotVersion = 1

// Errors of [Broker.Restore]. None of them says anything of the content.
var (
	ErrSnapshotCorrupt = errors.New("the hand-over is not readable")
	ErrSnapshotVersion = errors.New("the hand-over is of another version")
	ErrSnapshotBoot    = errors.New("the hand-over is from another boot")
	ErrSnapshotGrant   = errors.New("the hand-over is of another grant")
)

// snapshot is the state that survives a restart. It holds tokens: it may only
// ever be in memory.
type snapshot struct {
	Version   int           `json:"version"`
	BootID    string        `json:"bootId"`
	Consent   grant.Consent `json:"consent"`
	Hash      [32]byte      `json:"hash"`
	Confirmed time.Duration `json:"confirmed"`
	Entries   []entry       `json:"entries"`
}

// entry is one credential of a snapshot, with its times since boot.
type entry struct {
	Token    string          `json:"token"`
	Service  string          `json:"service"`
	Type     string          `json:"type"`
	Expires  time.Time       `json:"expires"`
	Metadata json.RawMessage `json:"metadata"`
	Exchange string          `json:"exchange"`
	Stored   time.Duration   `json:"stored"`
	Deadline time.Duration   `json:"deadline"`
	Fresh    time.Duration   `json:"fresh"`
	Refresh  time.Duration   `json:"refresh"`
	Renew    time.Duration   `json:"renew"`
	Read     int64           `json:"read"`
	Stuck    bool            `json:"stuck"`
	Tried    time.Duration   `json:"tried"`
}

// Snapshot returns the state that [Broker.Restore] takes, nil if nothing may be
// handed over: nothing is held, or it must not be served. It holds tokens in the
// clear and is for memory only.
func (b *Broker) Snapshot() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	g, c := b.gate.Load(), b.clocks()
	if g.err != nil || !g.alive(c) {
		return nil
	}
	out := snapshot{
		Version: snapshotVersion, BootID: clock.BootID(), Consent: g.grant.Claims.Consent(), Hash: g.grant.Hash,
		Confirmed: time.Duration(b.confirmedAt.Load()),
	}
	for _, s := range b.services {
		if h := s.held; h != nil && h.servable(c) {
			out.Entries = append(out.Entries, entry{
				Token: h.cred.AccessToken.Reveal(), Service: s.name, Type: h.cred.CredentialType,
				Expires: h.cred.TokenExpiresAt, Metadata: h.cred.Metadata, Exchange: h.exchange,
				Stored: h.storedAt, Deadline: h.bootDeadline, Fresh: h.freshUntil,
				Refresh: h.refreshAt, Renew: h.renewAt, Read: h.lastRead.Load(), Stuck: h.stuck, Tried: s.triedAt,
			})
		}
	}
	if len(out.Entries) == 0 {
		return nil
	}
	content, err := json.Marshal(out)
	if err != nil {
		b.log.Error("making a snapshot of the cache failed", "error", err)
		return nil
	}
	return content
}

// Restore takes over what [Broker.Snapshot] of a former process returned, and
// returns how many credentials that were. It is called once, after the grant was
// set: a snapshot that is corrupt, or of another consent, version or boot, is
// refused whole.
func (b *Broker) Restore(content []byte) (int, error) {
	var in snapshot
	if err := json.Unmarshal(content, &in); err != nil {
		// The decoder's own error could quote the content.
		return 0, ErrSnapshotCorrupt
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	g, c := b.gate.Load(), b.clocks()
	bootID := clock.BootID()
	switch {
	case in.Version != snapshotVersion:
		return 0, ErrSnapshotVersion
	case bootID == "" || in.BootID != bootID:
		return 0, ErrSnapshotBoot
	case g.err != nil || !g.alive(c) || in.Hash != g.grant.Hash && !in.Consent.Same(g.grant.Claims.Consent()):
		return 0, ErrSnapshotGrant
	}
	for i := range in.Entries {
		if !in.Entries[i].whole(c.boot) {
			return 0, fmt.Errorf("%w: an entry is not whole", ErrSnapshotCorrupt)
		}
	}
	restored := 0
	for _, e := range in.Entries {
		if preflight(g.grant, e.Service) == nil && b.restore(e, c.boot) {
			restored++
		}
	}
	if in.Hash == g.grant.Hash && in.Confirmed > 0 && in.Confirmed <= c.boot {
		b.confirmedAt.Store(int64(in.Confirmed))
	} else {
		b.revalidateAll(c.boot)
	}
	b.broadcast()
	return restored, nil
}

// whole reports whether the entry may be what Snapshot wrote before now.
func (e *entry) whole(now time.Duration) bool {
	for _, past := range []time.Duration{e.Stored, e.Tried, time.Duration(e.Read)} {
		if past < 0 || past > now {
			return false
		}
	}
	return e.Token != "" && upstream.ValidService(e.Service) && bytes.HasPrefix(e.Metadata, []byte("{")) &&
		e.Refresh >= 0 && e.Renew >= 0
}

// restore puts one entry back, and reports whether it is of any use. None of its
// deadlines is believed beyond what an exchange at the time of its storage could
// have given it. b.mu is held.
func (b *Broker) restore(e entry, now time.Duration) bool {
	cred := &upstream.Credential{
		AccessToken: secret.New(e.Token), Service: e.Service, CredentialType: e.Type,
		TokenExpiresAt: e.Expires, Metadata: e.Metadata,
	}
	s := b.service(e.Service)
	h := b.newHeld(s, cred, e.Stored)
	if !e.Expires.IsZero() {
		wall, vault := b.remaining(cred)
		h.bootDeadline = now + min(wall, vault) - b.tunables.ExpiryMargin
	}
	h.bootDeadline = min(h.bootDeadline, e.Deadline)
	h.freshUntil = min(h.bootDeadline, e.Fresh)
	h.refreshAt, h.renewAt, h.stuck, h.exchange = e.Refresh, e.Renew, e.Stuck, e.Exchange
	h.lastRead.Store(e.Read)
	s.known, s.triedAt = true, e.Tried
	b.put(s, h)
	return s.held == h
}
