package socketapi

import (
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/socketapi/audit"
)

// The defaults of [Options].
const (
	// DefaultWait is what a caller waits that does not say (long enough
	// for one exchange with its retry).
	DefaultWait = 10 * time.Second
	// DefaultMaxWait bounds what a caller can ask for.
	DefaultMaxWait = 60 * time.Second
	// DefaultMaxBodyBytes is far above any body of this API, which holds one
	// name or one fingerprint.
	DefaultMaxBodyBytes = 16 << 10
	// DefaultMaxHeaderBytes admits the longest grant token that the vault
	// itself admits (16 KiB), since an SDK sends it along though it is ignored.
	DefaultMaxHeaderBytes = 32 << 10
	// DefaultReadTimeout is for a header, and again for a body, to arrive:
	// peers are on the same host, and have both ready when they start to send.
	DefaultReadTimeout = 5 * time.Second
	// DefaultWriteTimeout is for a client to read what it asked for.
	DefaultWriteTimeout = 20 * time.Second
	// DefaultIdleTimeout is how long a connection may be kept without a request.
	DefaultIdleTimeout = 2 * time.Minute
	// DefaultMaxConns bounds all connections, DefaultMaxConnsPerUID those of
	// one user: three users can have all they may, and the rest is a reserve.
	DefaultMaxConns       = 4096
	DefaultMaxConnsPerUID = 1024
	// DefaultGrace is how long a stop waits for requests under way: half of
	// what container runtimes give before they kill.
	DefaultGrace = 5 * time.Second
)

// Options configure an [API]. The zero value of all but Source is the default.
type Options struct {
	// Source is what is served. Required.
	Source Source
	// Logger gets what operators should know; nil discards it.
	Logger *slog.Logger
	// Access are the rules to begin with; nil lets everybody read everything
	// whom the socket lets in. See [API.SetAccess].
	Access *access.Rules
	// Audit records releases and denials; nil records nothing.
	Audit *audit.Log
	// Metrics answers GET /metrics; nil makes it NO_SUCH_ROUTE.
	Metrics http.Handler
	// Wait is how long a caller waits that does not say; 0 means DefaultWait.
	Wait time.Duration
	// MaxWait is the longest a caller may wait; 0 means DefaultMaxWait.
	MaxWait time.Duration
	// MaxBodyBytes bounds a request's body; 0 means DefaultMaxBodyBytes.
	MaxBodyBytes int64
	// MaxHeaderBytes bounds a request's header, roughly; 0 means
	// DefaultMaxHeaderBytes.
	MaxHeaderBytes int
	// ReadTimeout is how long a header, and again a body, may take to arrive
	// once it has begun; 0 means DefaultReadTimeout.
	ReadTimeout time.Duration
	// WriteTimeout cuts off a client that does not read its answer, after
	// between half of it and all of it; 0 means DefaultWriteTimeout.
	WriteTimeout time.Duration
	// IdleTimeout ends a connection without a request; 0 means
	// DefaultIdleTimeout.
	IdleTimeout time.Duration
	// MaxConns bounds the connections open at once; 0 means DefaultMaxConns.
	// It is lowered to what the process's file descriptors allow.
	MaxConns int
	// MaxConnsPerUID bounds those of one user; 0 means DefaultMaxConnsPerUID.
	MaxConnsPerUID int
	// Grace is how long [API.Serve] waits for requests under way after its
	// context has ended; 0 means DefaultGrace.
	Grace time.Duration
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&o.Wait, DefaultWait)
	setDefault(&o.MaxWait, DefaultMaxWait)
	setDefault(&o.MaxBodyBytes, DefaultMaxBodyBytes)
	setDefault(&o.MaxHeaderBytes, DefaultMaxHeaderBytes)
	setDefault(&o.ReadTimeout, DefaultReadTimeout)
	setDefault(&o.WriteTimeout, DefaultWriteTimeout)
	setDefault(&o.IdleTimeout, DefaultIdleTimeout)
	setDefault(&o.MaxConns, DefaultMaxConns)
	setDefault(&o.MaxConnsPerUID, DefaultMaxConnsPerUID)
	setDefault(&o.Grace, DefaultGrace)
	o.Wait = min(o.Wait, o.MaxWait)
}

func setDefault[T comparable](value *T, preset T) {
	var zero T
	if *value == zero {
		*value = preset
	}
}

// validate refuses what can only be a mistake.
func (o *Options) validate() error {
	if o.Source == nil {
		return errors.New("socketapi: Options.Source is required")
	}
	if o.Wait < 0 || o.MaxWait < 0 || o.ReadTimeout < 0 || o.WriteTimeout < 0 || o.IdleTimeout < 0 || o.Grace < 0 {
		return errors.New("socketapi: a duration in Options is negative")
	}
	if o.MaxBodyBytes < 0 || o.MaxHeaderBytes < 0 || o.MaxConns < 0 || o.MaxConnsPerUID < 0 {
		return errors.New("socketapi: a limit in Options is negative")
	}
	return nil
}

// API answers requests on the socket. Make one with [New]; it is safe for
// concurrent use.
type API struct {
	options Options
	source  Source
	log     *slog.Logger
	rules   atomic.Pointer[access.Rules]

	// draining is set once Serve stops: answers then close their connection.
	draining atomic.Bool
	serving  atomic.Bool
	conns    *connections
	internal *pipeListener
}

// New checks o and returns an API that serves from it. It starts nothing.
func New(o Options) (*API, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o.setDefaults()
	if conns := affordable(o.MaxConns); conns < o.MaxConns {
		o.Logger.Warn("fewer connections than configured: the limit on file descriptors is lower",
			slog.Int("configured", o.MaxConns), slog.Int("connections", conns))
		o.MaxConns = conns
	}
	a := &API{
		options:  o,
		source:   o.Source,
		log:      o.Logger,
		conns:    newConnections(newConnLimits(o.MaxConns, o.MaxConnsPerUID)),
		internal: newPipeListener(),
	}
	a.rules.Store(o.Access)
	return a, nil
}

// SetAccess replaces the access rules, nil for none, from the next request on.
// Connections stay open.
func (a *API) SetAccess(r *access.Rules) { a.rules.Store(r) }

// Handler returns the API as an http.Handler. Callers are identified only on
// connections that [API.Serve] accepted: on others they are unknown, which no
// access rule allows.
func (a *API) Handler() http.Handler { return http.HandlerFunc(a.serveHTTP) }
