package daemon

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/grantexd/grantexd/upstream/budget"
)

// Key is one thing that can be configured: by a flag, by an environment
// variable, or in the configuration file.
type Key struct {
	// Name is the key's place in the configuration file: "grant.file".
	Name string
	// Flag is the flag of the same meaning, without dashes.
	Flag string
	// Env is the environment variable of the same meaning.
	Env string
	// Unit says what is written: "duration", "count", "path" …
	Unit string
	// Default says what holds if nothing is said.
	Default string
	// Meaning says what it does, in a sentence without a full stop.
	Meaning string
	// Reload says that a change takes effect on a reload; others need a
	// restart.
	Reload bool
	// Common says that the key is one for every day, and no tuning.
	Common bool

	check check
	index []int // of the field in Config
}

// Units of keys.
const (
	unitDuration = "duration"
	unitCount    = "count"
	unitBytes    = "bytes"
	unitFraction = "fraction"
	unitSwitch   = "true or false"
	unitPath     = "path"
	unitMode     = "octal mode"
	unitText     = "text"
	unitList     = "list"
)

// EnvPrefix begins the names of all environment variables of grantexd.
const EnvPrefix = "GRANTEXD_"

// irregularFlags are the flags that are not their key with dashes, because they
// are what scripts write every day.
var irregularFlags = map[string]string{
	"upstream.url":      "upstream",
	"socket.path":       "socket",
	"socket.listen-tcp": "listen-tcp",
	"upstream.ca-file":  "ca-file",
	"cache.prefetch":    "prefetch",
}

// keys is the one table of all that can be configured, but for the access rules.
// The bounds keep a number from turning a promise into its opposite.
var keys = withNames([]Key{
	{Name: "grant.file", Common: true, check: notEmpty, Default: "$CREDENTIALS_DIRECTORY/grant if there is one, else /etc/grantexd/grant for root and services, $XDG_CONFIG_HOME/grantexd/grant or ~/.config/grantexd/grant for a user",
		Meaning: "the file with the grant token: the bare JWT, or a JSON object with the field grantToken"},
	{Name: "grant.strict", Common: true, Meaning: "refuse a grant file that other users can reach and read, instead of warning"},
	{Name: "grant.poll", check: between(time.Second, time.Hour), Meaning: "how often the grant file is read without an event, since some mounts send none"},
	{Name: "grant.fast-poll", check: between(10*time.Millisecond, time.Minute), Meaning: "how often it is read while a directory of its path is missing or can't be watched"},
	{Name: "grant.debounce", check: between(time.Millisecond, 10*time.Second), Meaning: "how long changes are collected before the grant file is read"},
	{Name: "grant.settle", check: between(time.Millisecond, 10*time.Second), Meaning: "how far apart two readings are that must agree"},
	{Name: "grant.gone-after", check: between(100*time.Millisecond, time.Minute), Meaning: "how long the grant file must be gone to count as withdrawn"},

	{Name: "upstream.url", Common: true, check: checkUpstream, Meaning: "the vault's address, without /v1; https, except to loopback"},
	{Name: "upstream.ca-file", Common: true, Default: "none", Meaning: "certificates (PEM) to trust besides the system's"},
	{Name: "upstream.attempt-timeout", check: between(time.Second, 5*time.Minute), Meaning: "when an attempt to reach the vault is given up"},
	{Name: "upstream.flight-timeout", Reload: true, check: between(time.Second, 10*time.Minute), Meaning: "when an exchange with all its attempts is given up"},
	{Name: "upstream.retry-wait-min", check: between(time.Millisecond, time.Minute), Meaning: "the shortest wait before the one retry"},
	{Name: "upstream.retry-wait-max", check: between(time.Millisecond, time.Minute), Meaning: "the longest wait before the one retry"},
	{Name: "upstream.cooldown-min", Reload: true, check: between(100*time.Millisecond, time.Hour), Meaning: "how long the vault is left alone after a first failure"},
	{Name: "upstream.cooldown-max", Reload: true, check: between(100*time.Millisecond, time.Hour), Meaning: "how long it is left alone at most; the wait doubles until then"},

	{Name: "socket.path", Common: true, check: checkSocket,
		Default: "/run/grantexd/grantexd.sock for root and services, $XDG_RUNTIME_DIR/grantexd/grantexd.sock for a user",
		Meaning: "the Unix socket to serve on"},
	{Name: "socket.mode", Common: true, check: checkMode, Meaning: "the socket's mode: who may write to it may connect"},
	{Name: "socket.group", Common: true, Default: "the daemon's", Meaning: "the socket's group, by name or number"},
	{Name: "socket.strict", Common: true, Meaning: "refuse a directory in which others could replace the socket, instead of warning"},
	{Name: "socket.listen-tcp", Common: true, check: checkLoopback, Default: "none",
		Meaning: "a loopback address, host:port, for SDKs that can't use a socket; the token that they need stands in the file PATH.token beside the socket"},
	{Name: "socket.wait", check: between(time.Millisecond, 10*time.Minute), Meaning: "how long a caller waits for a credential that does not say"},
	{Name: "socket.max-wait", check: between(time.Millisecond, 10*time.Minute), Meaning: "the longest that a caller may wait"},
	{Name: "socket.max-connections", check: within(1, 1<<20), Meaning: "connections in all"},
	{Name: "socket.max-connections-per-uid", check: within(1, 1<<20), Meaning: "connections of one user"},
	{Name: "socket.max-header-bytes", Unit: unitBytes, check: within(1<<10, 1<<20), Meaning: "the longest header of a request"},
	{Name: "socket.max-body-bytes", Unit: unitBytes, check: within(1<<10, 1<<20), Meaning: "the longest body of a request"},
	{Name: "socket.read-timeout", check: between(100*time.Millisecond, 10*time.Minute), Meaning: "how long a header, and again a body, may take to arrive"},
	{Name: "socket.write-timeout", check: between(100*time.Millisecond, 10*time.Minute), Meaning: "how long a client may take to read its answer"},
	{Name: "socket.idle-timeout", check: between(time.Second, 24*time.Hour), Meaning: "how long a connection is kept without a request"},
	{Name: "socket.grace", check: between(100*time.Millisecond, 10*time.Minute), Meaning: "how long a stop waits for requests under way"},

	{Name: "budget.ledger", Common: true, Default: "budget.ledger in state.dir", Meaning: "the file in which departures are counted; instances behind one address share one"},
	{Name: "budget.limit", Reload: true, check: within(1, budget.DefaultLimit), Meaning: "departures in a window: 20 at most, which is what the vault allows"},
	{Name: "budget.window", Reload: true, check: between(budget.DefaultWindow, 24*time.Hour), Meaning: "the window in which they are counted: a minute at least, which is the vault's"},
	{Name: "budget.margin", Reload: true, check: between(time.Second, time.Hour), Meaning: "how much longer than the window a departure keeps its slot"},
	{Name: "budget.stall", Reload: true, check: between(30*time.Second, time.Hour), Meaning: "how late the vault may still count a departure that was given up"},
	{Name: "budget.reserve", Reload: true, check: within(1, budget.DefaultLimit-1), Default: "8, or two fifths of a smaller limit", Meaning: "slots that refreshes leave to those who wait for a credential"},
	{Name: "budget.max-block", Reload: true, check: between(time.Minute, 24*time.Hour), Meaning: "the longest that an answer of the vault can stop all departures"},

	{Name: "cache.expiry-margin", Reload: true, check: between(time.Millisecond, time.Hour), Meaning: "how long before its expiry a credential is no longer served"},
	{Name: "cache.refresh-fraction", Reload: true, check: fraction(0.01, 0.5), Meaning: "the part of its life before its expiry at which a credential is refreshed"},
	{Name: "cache.refresh-lead-min", Reload: true, check: between(time.Second, 24*time.Hour), Meaning: "the shortest time before its expiry at which it is refreshed"},
	{Name: "cache.refresh-lead-max", Reload: true, check: between(time.Second, 24*time.Hour), Meaning: "the longest time before its expiry at which it is refreshed"},
	{Name: "cache.refresh-min-life", Reload: true, check: between(time.Second, 24*time.Hour), Meaning: "a credential with a shorter life is not refreshed ahead"},
	{Name: "cache.exchange-spacing", Reload: true, check: between(time.Second, 24*time.Hour), Meaning: "the least time between two exchanges of a service that no miss or expiry asks for, no-cache included"},
	{Name: "cache.urgent-before", Reload: true, check: between(time.Second, time.Hour), Meaning: "how long before its expiry a refresh is as urgent as a miss"},
	{Name: "cache.fresh-without-expiry", Reload: true, check: between(time.Second, 24*time.Hour), Meaning: "how long a credential without expiry counts as fresh"},
	{Name: "cache.stale-without-expiry", Reload: true, check: between(time.Second, 24*time.Hour), Meaning: "how old a credential without expiry may get while the vault fails"},
	{Name: "cache.remember-not-found", Reload: true, check: between(time.Second, time.Hour), Meaning: "how long it is remembered that the vault stores no credential for a service"},
	{Name: "cache.remember-forbidden", Reload: true, check: between(time.Second, time.Hour), Meaning: "how long it is remembered that the grant does not cover a service"},
	{Name: "cache.remember-expired", Reload: true, check: between(time.Second, time.Hour), Meaning: "how long it is remembered that the vault holds an expired credential"},
	{Name: "cache.confirm-interval", Reload: true, check: between(30*time.Second, time.Hour), Meaning: "within which time a revocation of the grant bites while there are readers"},
	{Name: "cache.confirm-lead", Reload: true, check: between(time.Millisecond, time.Hour), Meaning: "how long before the end of that interval the check starts"},
	{Name: "cache.withdrawn-keep", Reload: true, check: between(time.Second, time.Hour), Meaning: "how long the cache of a withdrawn grant is kept, unserved, in case the same grant comes back"},
	{Name: "cache.probe-min", Reload: true, check: between(10*time.Second, 24*time.Hour), Meaning: "the first wait until a rejected grant is tried once more"},
	{Name: "cache.probe-max", Reload: true, check: between(10*time.Second, 24*time.Hour), Meaning: "the longest such wait; it doubles until then"},
	{Name: "cache.unknown-names", Reload: true, check: within(1, 20), Meaning: "names that never succeeded which a user may have under way at once, and fruitless in a window; also the exchanges of held credentials that it may force in one"},
	{Name: "cache.rejection-max", Reload: true, check: between(time.Second, time.Hour), Meaning: "the longest wait that repeated false rejection reports cost their reporter"},
	{Name: "cache.max-services", Reload: true, check: within(1, 65536), Meaning: "services held at most"},
	{Name: "cache.prefetch", Common: true, Reload: true, check: checkServices, Default: "none",
		Meaning: "services to get at the start; readyz waits until they were asked for"},

	{Name: "audit.file", Common: true, Default: "the log", Meaning: "the file that the audit's JSON lines are appended to; reopened on a reload"},
	{Name: "audit.required", Common: true, Meaning: "release nothing, and stop, if the audit can't be written"},
	{Name: "audit.interval", check: between(time.Second, time.Hour), Meaning: "how often counts of repeated releases and denials are written"},

	{Name: "log.level", Common: true, Reload: true, check: oneOf("debug", "info", "warn", "error"), Unit: "debug, info, warn or error", Meaning: "the least severe lines that are logged"},
	{Name: "log.format", Common: true, check: oneOf("text", "json"), Unit: "text or json", Meaning: "the form of the log on standard error"},

	{Name: "state.dir", Common: true, check: notEmpty,
		Default: "$STATE_DIRECTORY, else /var/lib/grantexd for root and services, $XDG_STATE_HOME/grantexd or ~/.local/state/grantexd for a user",
		Meaning: "the directory of the ledger and of the key of the fingerprints; no secrets of others, and no backup needed"},
})

// Reference returns the table of all keys in the order of the file, but for
// access, which is a list of rules and has neither a flag nor an environment
// variable: the package access says what a rule is.
func Reference() []Key { return slices.Clone(keys) }

// envNames returns the environment variables of the key: Env and, where that is
// a shorter one, the one that follows from the key's name.
func (k *Key) envNames() []string {
	regular := EnvPrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(k.Name))
	if regular == k.Env {
		return []string{k.Env}
	}
	return []string{k.Env, regular}
}

// withNames completes the table by what follows from the names and from the
// fields of [Config].
func withNames(table []Key) []Key {
	defaults := Defaults()
	for i := range table {
		k := &table[i]
		k.index = fieldIndex(k.Name)
		k.Flag = irregularFlags[k.Name]
		if k.Flag == "" {
			k.Flag = strings.ReplaceAll(k.Name, ".", "-")
		}
		k.Env = EnvPrefix + strings.ToUpper(strings.ReplaceAll(k.Flag, "-", "_"))
		field := k.field(&defaults)
		if k.Unit == "" {
			k.Unit = unitOf(field, k.Name)
		}
		if k.Default == "" {
			k.Default = textOf(field)
		}
	}
	return table
}

// fieldIndex finds the field of Config that a key names by its YAML tags.
func fieldIndex(name string) []int {
	var index []int
	t := reflect.TypeFor[Config]()
	for part := range strings.SplitSeq(name, ".") {
		f, ok := taggedField(t, part)
		if !ok {
			panic(fmt.Sprintf("daemon: key %s has no field in Config", name))
		}
		index = append(index, f.Index...)
		t = f.Type
	}
	return index
}

func taggedField(t reflect.Type, tag string) (reflect.StructField, bool) {
	for f := range t.Fields() {
		if f.Tag.Get("yaml") == tag {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// field returns the key's field in c.
func (k *Key) field(c *Config) reflect.Value { return reflect.ValueOf(c).Elem().FieldByIndex(k.index) }

// Value returns the key's value in c, as it would be written.
func (k *Key) Value(c *Config) string { return textOf(k.field(c)) }

// IsSwitch reports whether the key is true or false, so that its flag needs no
// value.
func (k *Key) IsSwitch() bool { return k.Unit == unitSwitch }

func unitOf(field reflect.Value, name string) string {
	switch field.Interface().(type) {
	case time.Duration:
		return unitDuration
	case Mode:
		return unitMode
	case bool:
		return unitSwitch
	case int, int64:
		return unitCount
	case float64:
		return unitFraction
	case []string:
		return unitList
	}
	if isPath(name) {
		return unitPath
	}
	return unitText
}

// isPath reports whether the key is the path of a file.
func isPath(name string) bool {
	switch name {
	case "grant.file", "upstream.ca-file", "socket.path", "budget.ledger", "audit.file", "state.dir":
		return true
	}
	return false
}
