package devvault

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grantexd/grantexd/upstream/secret"
)

// The vault's limit on exchanges, as it was observed.
const (
	DefaultRateLimit  = 20
	DefaultRateWindow = time.Minute
)

// RateBy says whose exchanges share a window.
type RateBy string

// The two readings of the limit.
const (
	// RateByAddress is what the service does: all exchanges from one address.
	RateByAddress RateBy = "address"
	// RateByToken is what the service documents: all exchanges with one grant
	// token.
	RateByToken RateBy = "token"
)

// Options configure a vault. The zero value is a vault like the real one, with
// everything in memory.
type Options struct {
	// RateLimit is how many exchanges are let through in a window; zero means
	// [DefaultRateLimit], a negative one means all.
	RateLimit int
	// RateWindow is the length of the window, which starts with its first
	// exchange; zero means [DefaultRateWindow].
	RateWindow time.Duration
	// RateBy says whose exchanges share a window; "" means [RateByAddress].
	RateBy RateBy
	// NoDeveloperLimits turns off the limits on the developer's calls (30
	// stores a minute, for one), for tests that fill a vault.
	NoDeveloperLimits bool
	// MetadataAsObject sends metadata as the object that is documented, and
	// not as the string which the service sends.
	MetadataAsObject bool
	// APIKey is the developer's key; empty means a random one, which is the
	// same again for the same data file.
	APIKey secret.Text
	// SigningKey signs the grant tokens, unless the data file holds a key
	// already; nil means a new one, which takes some 100 ms to make.
	SigningKey *rsa.PrivateKey
	// DataFile keeps credentials, grants and keys, encrypted; "" keeps them in
	// memory. It is made if it is missing.
	DataFile string
	// KeyFile holds the key of the data file: 32 bytes, or 64 hex digits, in
	// a regular file that only its owner can read. "" means the file
	// devvault.key in CredentialsDir if there is one, and else the data
	// file's name with .key behind it, which is made if the data file is
	// made too.
	KeyFile string
	// CredentialsDir is systemd's $CREDENTIALS_DIRECTORY; "" means none.
	CredentialsDir string
	// AllowRemoteAdmin lets others than this machine use the admin API, which
	// gives out everything in the vault to whoever can reach it.
	AllowRemoteAdmin bool
	// Clock is the wall clock; nil means [time.Now]. Windows and delays follow
	// the time package.
	Clock func() time.Time
	// Logger gets what happens, without secrets; nil discards it.
	Logger *slog.Logger
}

func (o *Options) setDefaults() error {
	if o.RateLimit == 0 {
		o.RateLimit = DefaultRateLimit
	}
	if o.RateWindow == 0 {
		o.RateWindow = DefaultRateWindow
	}
	if o.RateBy == "" {
		o.RateBy = RateByAddress
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.RateWindow < 0:
		return errors.New("the rate limit's window is negative")
	case o.RateBy != RateByAddress && o.RateBy != RateByToken:
		return fmt.Errorf("rate limit by %q: use %q or %q", o.RateBy, RateByAddress, RateByToken)
	case o.DataFile == "" && o.KeyFile != "":
		return errors.New("a key file without a data file")
	}
	return nil
}

// Server is a vault. Make one with [New]; it has no goroutines of its own and is
// safe for concurrent use.
type Server struct {
	opts    Options
	log     *slog.Logger
	records *records
	keys    signingKeys
	apiKey  secret.Text
	limits  limits
	faults  faultSet
	seen    *exchangeLog
	offset  atomic.Int64 // of the vault's clock, in nanoseconds

	closed    chan struct{}
	closeOnce sync.Once
}

// New makes a vault from what its data file holds, if it has one. It fails if
// the data file can't be used: it is damaged, in use, or its key is another
// (see [ErrWrongKey], [ErrDamaged] and [ErrInUse]). Then nothing was written.
// The caller has to call [Server.Close].
func New(o Options) (*Server, error) {
	if err := o.setDefaults(); err != nil {
		return nil, fmt.Errorf("devvault: %w", err)
	}
	var j journal = noJournal{}
	if o.DataFile != "" {
		var err error
		if j, err = openDataFile(o); err != nil {
			return nil, fmt.Errorf("devvault: %w", err)
		}
	}
	s := &Server{
		opts:   o,
		log:    o.Logger,
		limits: newLimits(o),
		seen:   newExchangeLog(o.RateWindow),
		closed: make(chan struct{}),
	}
	if err := s.load(j); err != nil {
		_ = j.close() // the first error is the one that tells something
		return nil, fmt.Errorf("devvault: %w", err)
	}
	return s, nil
}

func (s *Server) load(j journal) error {
	var err error
	if s.records, err = loadRecords(j); err != nil {
		return err
	}
	stored, err := s.records.keep("signing-keys", func() ([]byte, error) {
		keys, err := newSigningKeys(s.opts.SigningKey, s.now())
		if err != nil {
			return nil, err
		}
		return keys.encode()
	})
	if err != nil {
		return err
	}
	if s.keys, err = decodeSigningKeys(stored); err != nil {
		return err
	}
	if s.apiKey = s.opts.APIKey; !s.apiKey.IsZero() {
		return nil
	}
	key, err := s.records.keep("api-key", func() ([]byte, error) {
		return []byte("gx_dev_" + randomText(alphanumeric, 32)), nil
	})
	s.apiKey = secret.New(string(key))
	return err
}

// Close lets go of the data file and ends all calls that hang. Whoever serves
// the handlers stops that first.
func (s *Server) Close() error {
	var err error
	s.closeOnce.Do(func() {
		close(s.closed)
		err = s.records.journal.close()
	})
	return err
}

// String says no more than what s is: it holds all the keys.
func (s *Server) String() string { return "devvault.Server" }

// GoString is String, for %#v.
func (s *Server) GoString() string { return s.String() }

// APIKey returns the developer's key.
func (s *Server) APIKey() secret.Text { return s.apiKey }

// SetClockOffset puts the vault's clock off by d, forward or, if negative, back:
// the Date header, what it takes for expired, and the times that it writes.
func (s *Server) SetClockOffset(d time.Duration) { s.offset.Store(int64(d)) }

// ClockOffset returns what [Server.SetClockOffset] set.
func (s *Server) ClockOffset() time.Duration { return time.Duration(s.offset.Load()) }

// now is the vault's wall clock.
func (s *Server) now() time.Time { return s.opts.Clock().Add(s.ClockOffset()) }

// AddFault makes the vault misbehave until [Server.RemoveFault] is called with
// the id that it returns. It fails on a fault that makes no sense.
func (s *Server) AddFault(f Fault) (id int, err error) { return s.faults.add(f) }

// RemoveFault ends a fault and lets the calls go on that hang in it. It returns
// false if there is none with this id.
func (s *Server) RemoveFault(id int) bool { return s.faults.remove(id) }

// ClearFaults ends all faults.
func (s *Server) ClearFaults() { s.faults.clear() }

// Faults returns the faults that were not removed, the spent ones included.
func (s *Server) Faults() []ActiveFault { return s.faults.list() }

// Exchanges returns the log of the exchanges that the vault has seen.
func (s *Server) Exchanges() Exchanges { return s.seen.report() }

// ResetExchanges starts the log anew.
func (s *Server) ResetExchanges() { s.seen.reset() }

// Reset ends all faults, sets the clock right, starts the log anew and forgets
// the rate limit's windows. Credentials and grants stay.
func (s *Server) Reset() {
	s.faults.clear()
	s.SetClockOffset(0)
	s.seen.reset()
	s.limits.reset()
}

// Handler returns the vault's own API. The server around it has to accept
// headers of more than 16 KiB, as net/http's default does, so that the vault can
// refuse them in its own way.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serveVault) }
