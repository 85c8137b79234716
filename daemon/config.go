package daemon

import (
	"io/fs"
	"time"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/socketapi"
	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/budget"
)

// DefaultUpstream is the hosted vault.
const DefaultUpstream = "https://api.grantex.dev"

// Config is all that can be configured. Its groups and keys are those of the
// configuration file; [Defaults] gives every value that is not set.
type Config struct {
	Grant    GrantConfig    `yaml:"grant"`
	Upstream UpstreamConfig `yaml:"upstream"`
	Socket   SocketConfig   `yaml:"socket"`
	Budget   BudgetConfig   `yaml:"budget"`
	Cache    CacheConfig    `yaml:"cache"`
	Audit    AuditConfig    `yaml:"audit"`
	Log      LogConfig      `yaml:"log"`
	State    StateConfig    `yaml:"state"`
	// Access are the rules of who may read what; nil means that whoever the
	// socket lets in may read everything.
	Access []access.Rule `yaml:"access"`
}

// GrantConfig is about the file that holds the grant token.
type GrantConfig struct {
	File      string        `yaml:"file"`
	Strict    bool          `yaml:"strict"`
	Poll      time.Duration `yaml:"poll"`
	FastPoll  time.Duration `yaml:"fast-poll"`
	Debounce  time.Duration `yaml:"debounce"`
	Settle    time.Duration `yaml:"settle"`
	GoneAfter time.Duration `yaml:"gone-after"`
}

// UpstreamConfig is about the vault.
type UpstreamConfig struct {
	URL            string        `yaml:"url"`
	CAFile         string        `yaml:"ca-file"`
	AttemptTimeout time.Duration `yaml:"attempt-timeout"`
	FlightTimeout  time.Duration `yaml:"flight-timeout"`
	RetryWaitMin   time.Duration `yaml:"retry-wait-min"`
	RetryWaitMax   time.Duration `yaml:"retry-wait-max"`
	CooldownMin    time.Duration `yaml:"cooldown-min"`
	CooldownMax    time.Duration `yaml:"cooldown-max"`
}

// SocketConfig is about the socket and the connections on it.
type SocketConfig struct {
	Path   string `yaml:"path"`
	Mode   Mode   `yaml:"mode"`
	Group  string `yaml:"group"`
	Strict bool   `yaml:"strict"`
	// ListenTCP is the loopback address for SDKs that can't use a socket, "" for
	// none.
	ListenTCP         string        `yaml:"listen-tcp"`
	Wait              time.Duration `yaml:"wait"`
	MaxWait           time.Duration `yaml:"max-wait"`
	MaxConnections    int           `yaml:"max-connections"`
	MaxConnectionsUID int           `yaml:"max-connections-per-uid"`
	MaxHeaderBytes    int           `yaml:"max-header-bytes"`
	MaxBodyBytes      int64         `yaml:"max-body-bytes"`
	ReadTimeout       time.Duration `yaml:"read-timeout"`
	WriteTimeout      time.Duration `yaml:"write-timeout"`
	IdleTimeout       time.Duration `yaml:"idle-timeout"`
	Grace             time.Duration `yaml:"grace"`
}

// BudgetConfig is about the departures to the vault.
type BudgetConfig struct {
	// Ledger is the ledger file, "" for budget.ledger in the state directory.
	Ledger   string        `yaml:"ledger"`
	Limit    int           `yaml:"limit"`
	Window   time.Duration `yaml:"window"`
	Margin   time.Duration `yaml:"margin"`
	Stall    time.Duration `yaml:"stall"`
	Reserve  int           `yaml:"reserve"`
	MaxBlock time.Duration `yaml:"max-block"`
}

// CacheConfig is about what is held, and for how long.
type CacheConfig struct {
	ExpiryMargin       time.Duration `yaml:"expiry-margin"`
	RefreshFraction    float64       `yaml:"refresh-fraction"`
	RefreshLeadMin     time.Duration `yaml:"refresh-lead-min"`
	RefreshLeadMax     time.Duration `yaml:"refresh-lead-max"`
	RefreshMinLife     time.Duration `yaml:"refresh-min-life"`
	ExchangeSpacing    time.Duration `yaml:"exchange-spacing"`
	UrgentBefore       time.Duration `yaml:"urgent-before"`
	FreshWithoutExpiry time.Duration `yaml:"fresh-without-expiry"`
	StaleWithoutExpiry time.Duration `yaml:"stale-without-expiry"`
	RememberNotFound   time.Duration `yaml:"remember-not-found"`
	RememberForbidden  time.Duration `yaml:"remember-forbidden"`
	RememberExpired    time.Duration `yaml:"remember-expired"`
	ConfirmInterval    time.Duration `yaml:"confirm-interval"`
	ConfirmLead        time.Duration `yaml:"confirm-lead"`
	WithdrawnKeep      time.Duration `yaml:"withdrawn-keep"`
	ProbeMin           time.Duration `yaml:"probe-min"`
	ProbeMax           time.Duration `yaml:"probe-max"`
	UnknownNames       int           `yaml:"unknown-names"`
	RejectionMax       time.Duration `yaml:"rejection-max"`
	MaxServices        int           `yaml:"max-services"`
	Prefetch           []string      `yaml:"prefetch"`
}

// AuditConfig is about the record of who got which credential.
type AuditConfig struct {
	// File is where it is written, "" for the log.
	File string `yaml:"file"`
	// Required stops releases, and the daemon, if it can't be written.
	Required bool          `yaml:"required"`
	Interval time.Duration `yaml:"interval"`
}

// LogConfig is about the daemon's own log, on standard error.
type LogConfig struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// StateConfig is about what outlives the process.
type StateConfig struct {
	// Dir holds the ledger and the key of the fingerprints. It needs no backup.
	Dir string `yaml:"dir"`
}

// Mode is a file mode that is written in octal, as "0660".
type Mode fs.FileMode

// Defaults returns the configuration that holds where nothing else is said. The
// paths depend on who runs the daemon, and are filled in when it is loaded.
func Defaults() Config {
	t := broker.DefaultTunables()
	return Config{
		Grant: GrantConfig{
			Poll: grant.DefaultPoll, FastPoll: grant.DefaultFastPoll, Debounce: grant.DefaultDebounce,
			Settle: grant.DefaultSettle, GoneAfter: grant.DefaultGoneAfter,
		},
		Upstream: UpstreamConfig{
			URL: DefaultUpstream, AttemptTimeout: upstream.DefaultAttemptTimeout, FlightTimeout: t.FlightTimeout,
			RetryWaitMin: upstream.DefaultRetryWaitMin, RetryWaitMax: upstream.DefaultRetryWaitMax,
			CooldownMin: t.CooldownMin, CooldownMax: t.CooldownMax,
		},
		Socket: SocketConfig{
			Mode: Mode(socketapi.DefaultSocketMode), Wait: socketapi.DefaultWait, MaxWait: socketapi.DefaultMaxWait,
			MaxConnections: socketapi.DefaultMaxConns, MaxConnectionsUID: socketapi.DefaultMaxConnsPerUID,
			MaxHeaderBytes: socketapi.DefaultMaxHeaderBytes, MaxBodyBytes: socketapi.DefaultMaxBodyBytes,
			ReadTimeout: socketapi.DefaultReadTimeout, WriteTimeout: socketapi.DefaultWriteTimeout,
			IdleTimeout: socketapi.DefaultIdleTimeout, Grace: socketapi.DefaultGrace,
		},
		Budget: BudgetConfig{
			Limit: budget.DefaultLimit, Window: budget.DefaultWindow, Margin: budget.DefaultMargin,
			Stall: budget.DefaultStall, Reserve: budget.DefaultReserve, MaxBlock: budget.DefaultMaxBlock,
		},
		Cache: CacheConfig{
			ExpiryMargin: t.ExpiryMargin, RefreshFraction: t.RefreshFraction, RefreshLeadMin: t.RefreshLeadMin,
			RefreshLeadMax: t.RefreshLeadMax, RefreshMinLife: t.RefreshMinLife, ExchangeSpacing: t.ExchangeSpacing,
			UrgentBefore: t.UrgentBefore, FreshWithoutExpiry: t.FreshWithoutExpiry, StaleWithoutExpiry: t.StaleWithoutExpiry,
			RememberNotFound: t.RememberNotFound, RememberForbidden: t.RememberForbidden, RememberExpired: t.RememberExpired,
			ConfirmInterval: t.ConfirmInterval, ConfirmLead: t.ConfirmLead, WithdrawnKeep: t.WithdrawnKeep,
			ProbeMin: t.ProbeMin, ProbeMax: t.ProbeMax, UnknownNames: t.UnknownNames, RejectionMax: t.RejectionMax,
			MaxServices: t.MaxServices,
		},
		Audit: AuditConfig{Interval: time.Minute},
		Log:   LogConfig{Level: "info", Format: "text"},
	}
}

// tunables puts the broker's numbers together.
func (c *Config) tunables() broker.Tunables {
	return broker.Tunables{
		ExpiryMargin: c.Cache.ExpiryMargin, RefreshFraction: c.Cache.RefreshFraction,
		RefreshLeadMin: c.Cache.RefreshLeadMin, RefreshLeadMax: c.Cache.RefreshLeadMax,
		RefreshMinLife: c.Cache.RefreshMinLife, ExchangeSpacing: c.Cache.ExchangeSpacing, UrgentBefore: c.Cache.UrgentBefore,
		FreshWithoutExpiry: c.Cache.FreshWithoutExpiry, StaleWithoutExpiry: c.Cache.StaleWithoutExpiry,
		BackgroundSlots: c.Budget.Limit - c.Budget.Reserve, SlotReturn: c.Budget.Window + c.Budget.Margin,
		RememberNotFound: c.Cache.RememberNotFound, RememberForbidden: c.Cache.RememberForbidden,
		RememberExpired: c.Cache.RememberExpired, ConfirmInterval: c.Cache.ConfirmInterval, ConfirmLead: c.Cache.ConfirmLead,
		WithdrawnKeep: c.Cache.WithdrawnKeep, ProbeMin: c.Cache.ProbeMin, ProbeMax: c.Cache.ProbeMax,
		CooldownMin: c.Upstream.CooldownMin, CooldownMax: c.Upstream.CooldownMax,
		LimitedDefault: c.Budget.Window, LimitedMax: c.Budget.MaxBlock, FlightTimeout: c.Upstream.FlightTimeout,
		UnknownNames: c.Cache.UnknownNames, RejectionMax: c.Cache.RejectionMax, MaxServices: c.Cache.MaxServices,
	}
}

// limits puts the budget's numbers together.
func (c *Config) limits() budget.Limits {
	return budget.Limits{
		Limit: c.Budget.Limit, Window: c.Budget.Window, Margin: c.Budget.Margin, Stall: c.Budget.Stall,
		Reserve: c.Budget.Reserve, MaxBlock: c.Budget.MaxBlock,
	}
}
