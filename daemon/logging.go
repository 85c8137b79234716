package daemon

import (
	"io"
	"log/slog"
)

// NewLogger returns the daemon's log, one line for each record, text or JSON as c
// says, written to w. It sets level from c and follows it from then on, so that a
// reload can change it; nil makes a level of its own. An unknown level means
// info, an unknown format text: [Load] lets neither pass.
func NewLogger(w io.Writer, c LogConfig, level *slog.LevelVar) *slog.Logger {
	if level == nil {
		level = new(slog.LevelVar)
	}
	var parsed slog.Level
	if err := parsed.UnmarshalText([]byte(c.Level)); err == nil {
		level.Set(parsed)
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
