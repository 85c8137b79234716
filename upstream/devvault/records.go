package devvault

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/grantexd/grantexd/upstream/secret"
)

// credential is one stored credential of a principal.
type credential struct {
	id                   string
	developer, principal string
	service, kind        string
	expiresAt            *time.Time // nil: no expiry is known
	metadata             json.RawMessage
	createdAt, updatedAt time.Time
	// sequence orders credentials by when they were first stored: times can
	// be the same.
	sequence uint64
	// The secrets are exported fields since fmt can't call the methods of
	// others, and so would print what is in them.
	AccessToken, RefreshToken secret.Text
}

// owner is what a credential is found by; there is one for each.
type owner struct{ developer, principal, service string }

func (c credential) owner() owner { return owner{c.developer, c.principal, c.service} }

// recordKind tells the kinds of record in a journal apart.
type recordKind string

const (
	credentialRecord recordKind = "credential"
	grantRecord      recordKind = "grant"
	secretRecord     recordKind = "secret" // signing keys and the developer's API key
)

// journal keeps records beyond the life of the process. What was saved when
// save returns is there after a crash.
type journal interface {
	save(kind recordKind, id string, value []byte) error
	remove(kind recordKind, id string) error
	// load calls record for each record there is, once, before anything else.
	load(record func(kind recordKind, id string, value []byte) error) error
	close() error
}

// noJournal forgets: everything is in memory only.
type noJournal struct{}

func (noJournal) save(recordKind, string, []byte) error { return nil }
func (noJournal) remove(recordKind, string) error       { return nil }
func (noJournal) close() error                          { return nil }
func (noJournal) load(func(recordKind, string, []byte) error) error {
	return nil
}

// records are all that the vault knows, held in memory. Every change goes to the
// journal first: what was answered is what is saved.
type records struct {
	journal journal

	mu          sync.RWMutex // guards the rest, and the order of the journal
	credentials map[string]credential
	byOwner     map[owner]string // the credential's id
	granted     map[string]Grant
	secrets     map[string][]byte
	sequence    uint64
}

// loadRecords reads everything that j holds.
func loadRecords(j journal) (*records, error) {
	r := &records{
		journal:     j,
		credentials: map[string]credential{},
		byOwner:     map[owner]string{},
		granted:     map[string]Grant{},
		secrets:     map[string][]byte{},
	}
	return r, j.load(r.restore)
}

func (r *records) restore(kind recordKind, id string, value []byte) error {
	switch kind {
	case credentialRecord:
		c, err := decodeCredential(id, value)
		if err != nil {
			return err
		}
		r.credentials[id], r.byOwner[c.owner()] = c, id
		r.sequence = max(r.sequence, c.sequence)
	case grantRecord:
		var g Grant
		if err := json.Unmarshal(value, &g); err != nil {
			return fmt.Errorf("decoding a grant: %w", err)
		}
		r.granted[id] = g
	case secretRecord:
		r.secrets[id] = value
	default:
		return fmt.Errorf("a record of kind %q, which this version does not know", kind)
	}
	return nil
}

// store adds c, or replaces what its owner had: id and creation stay.
func (r *records) store(c credential) (credential, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.credentials[r.byOwner[c.owner()]]; ok {
		c.id, c.createdAt, c.sequence = old.id, old.createdAt, old.sequence
	} else {
		c.sequence = r.sequence + 1
	}
	value, err := c.encode()
	if err != nil {
		return credential{}, err
	}
	if err := r.journal.save(credentialRecord, c.id, value); err != nil {
		return credential{}, err
	}
	r.credentials[c.id], r.byOwner[c.owner()] = c, c.id
	r.sequence = max(r.sequence, c.sequence)
	return c, nil
}

// find returns the credential of o, whose service is compared with its case.
func (r *records) find(o owner) (credential, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c, ok := r.credentials[r.byOwner[o]]
	return c, ok
}

// get returns developer's credential with this id.
func (r *records) get(developer, id string) (credential, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c, ok := r.credentials[id]
	return c, ok && c.developer == developer
}

// list returns developer's credentials that pass the filter, newest first.
func (r *records) list(developer string, pass func(credential) bool) []credential {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var found []credential
	for _, c := range r.credentials {
		if c.developer == developer && pass(c) {
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b credential) int { return cmp.Compare(b.sequence, a.sequence) })
	return found
}

// remove deletes developer's credential with this id, and reports whether there
// was one.
func (r *records) remove(developer, id string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.credentials[id]
	if !ok || c.developer != developer {
		return false, nil
	}
	if err := r.journal.remove(credentialRecord, id); err != nil {
		return false, err
	}
	delete(r.credentials, id)
	delete(r.byOwner, c.owner())
	return true, nil
}

func (r *records) addGrant(g Grant) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.granted[g.ID]; taken {
		return fmt.Errorf("grant %q exists already", g.ID)
	}
	return r.saveGrant(g)
}

func (r *records) revokeGrant(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.granted[id]
	if !ok {
		return ErrUnknownGrant
	}
	g.Revoked = true
	return r.saveGrant(g)
}

// saveGrant is called with the lock held.
func (r *records) saveGrant(g Grant) error {
	value, err := json.Marshal(g)
	if err != nil {
		return fmt.Errorf("encoding a grant: %w", err)
	}
	if err := r.journal.save(grantRecord, g.ID, value); err != nil {
		return err
	}
	r.granted[g.ID] = g
	return nil
}

func (r *records) grant(id string) (Grant, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	g, ok := r.granted[id]
	return g, ok
}

func (r *records) grants() []Grant {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]Grant, 0, len(r.granted))
	for _, g := range r.granted {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b Grant) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// keep returns the secret of this name, made by create if there is none yet.
func (r *records) keep(name string, create func() ([]byte, error)) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if value, ok := r.secrets[name]; ok {
		return value, nil
	}
	value, err := create()
	if err != nil {
		return nil, err
	}
	if err := r.journal.save(secretRecord, name, value); err != nil {
		return nil, err
	}
	r.secrets[name] = value
	return value, nil
}

// storedCredential is how a credential is kept in a data file.
type storedCredential struct {
	Developer    string          `json:"developer"`
	Principal    string          `json:"principal"`
	Service      string          `json:"service"`
	Kind         string          `json:"kind"`
	AccessToken  string          `json:"accessToken"`
	RefreshToken string          `json:"refreshToken,omitempty"`
	ExpiresAt    *time.Time      `json:"expiresAt,omitempty"`
	Metadata     json.RawMessage `json:"metadata"`
	CreatedAt    time.Time       `json:"createdAt"`
	UpdatedAt    time.Time       `json:"updatedAt"`
	Sequence     uint64          `json:"sequence"`
}

func (c credential) encode() ([]byte, error) {
	value, err := json.Marshal(storedCredential{
		Developer: c.developer, Principal: c.principal, Service: c.service, Kind: c.kind,
		AccessToken: c.AccessToken.Reveal(), RefreshToken: c.RefreshToken.Reveal(),
		ExpiresAt: c.expiresAt, Metadata: c.metadata,
		CreatedAt: c.createdAt, UpdatedAt: c.updatedAt, Sequence: c.sequence,
	})
	if err != nil {
		return nil, errors.New("encoding a credential failed") // the cause may quote it
	}
	return value, nil
}

func decodeCredential(id string, value []byte) (credential, error) {
	var s storedCredential
	if json.Unmarshal(value, &s) != nil {
		return credential{}, errors.New("decoding a credential failed") // the cause may quote it
	}
	return credential{
		id: id, developer: s.Developer, principal: s.Principal, service: s.Service, kind: s.Kind,
		AccessToken: secret.New(s.AccessToken), RefreshToken: secret.New(s.RefreshToken),
		expiresAt: s.ExpiresAt, metadata: s.Metadata,
		createdAt: s.CreatedAt, updatedAt: s.UpdatedAt, sequence: s.Sequence,
	}, nil
}
