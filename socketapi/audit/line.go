package audit

import (
	"log/slog"
	"strconv"

	"github.com/grantexd/grantexd/socketapi/peer"
)

// timeLayout is how the file's lines are stamped, in UTC.
const timeLayout = "2006-01-02T15:04:05.000Z"

// jsonAttr makes lines of log records: they have an event and no level.
func jsonAttr(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.LevelKey:
		return slog.Attr{}
	case slog.MessageKey:
		a.Key = "event"
	case slog.TimeKey:
		a.Value = slog.StringValue(a.Value.Time().UTC().Format(timeLayout))
	}
	return a
}

// identityAttrs says who somebody is, and why what is not known is not. That
// somebody runs in no container is nothing that could be known.
func identityAttrs(id *peer.Identity) []slog.Attr {
	attrs := []slog.Attr{slog.String("principal", id.Principal())}
	var unknown []slog.Attr
	attrs, unknown = factAttr(attrs, unknown, "uid", id.UID)
	attrs, unknown = factAttr(attrs, unknown, "gid", id.GID)
	attrs, unknown = factAttr(attrs, unknown, "pid", id.PID)
	attrs, unknown = factAttr(attrs, unknown, "executable", id.Executable)
	attrs, unknown = factAttr(attrs, unknown, "unit", id.Unit)
	attrs, _ = factAttr(attrs, nil, "container", id.Container)
	if len(unknown) > 0 {
		attrs = append(attrs, slog.GroupAttrs("unknown", unknown...))
	}
	return attrs
}

func factAttr[T any](known, unknown []slog.Attr, name string, f peer.Fact[T]) ([]slog.Attr, []slog.Attr) {
	if value, ok := f.Get(); ok {
		return append(known, slog.Any(name, value)), unknown
	}
	return known, append(unknown, slog.String(name, f.Reason()))
}

func credentialAttrs(service, fingerprint, exchange string) []slog.Attr {
	return []slog.Attr{
		slog.String("service", service), slog.String("fingerprint", fingerprint), slog.String("exchange", exchange),
	}
}

// maxName is how much is written of a name that a denied caller made up. The
// vault's own names are no longer.
const maxName = 64

// printable returns a name that somebody made up as it can be written down:
// short, in ASCII, and without control characters.
func printable(name string) string {
	more := ""
	if len(name) > maxName {
		name, more = name[:maxName], "…"
	}
	q := strconv.QuoteToASCII(name)
	return q[1:len(q)-1] + more
}
