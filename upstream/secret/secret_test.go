package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream/secret"
)

const canary = "canary-0d1f"

func TestTextNeverPrints(t *testing.T) {
	s := secret.New(canary)
	type holder struct {
		S secret.Text
		P *secret.Text
		M map[string]secret.Text
	}
	h := holder{S: s, P: &s, M: map[string]secret.Text{"k": s}}
	hidden := struct {
		s secret.Text
		m map[string]secret.Text
	}{s: s, m: h.M}

	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s, "h", h)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "s", s, "h", h)
	encoded, err := json.Marshal(h)
	require.NoError(t, err)

	printed := log.String() + string(encoded)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		printed += fmt.Sprintf(verb+verb+verb, s, h, hidden)
	}
	require.NotContains(t, printed, canary)
	require.Contains(t, printed, secret.Redacted)
}

func TestTextReveals(t *testing.T) {
	require.Equal(t, canary, secret.New(canary).Reveal())
	require.True(t, secret.Text{}.IsZero())
	require.False(t, secret.New(canary).IsZero())
	require.Equal(t, secret.New(canary), secret.New(canary))
}
