package socketapi

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPreferredWait(t *testing.T) {
	cases := []struct {
		name  string
		lines []string
		want  time.Duration
		ok    bool
	}{
		{"plain", []string{"wait=5"}, 5 * time.Second, true},
		{"zero", []string{"wait=0"}, 0, true},
		{"fraction", []string{"wait=0.25"}, 250 * time.Millisecond, true},
		{"quoted", []string{`wait="5"`}, 5 * time.Second, true},
		{"spaces", []string{"  WAIT =  5 "}, 5 * time.Second, true},
		{"among others", []string{`respond-async, wait=7; x=1, handling=lenient`}, 7 * time.Second, true},
		{"several lines", []string{"return=minimal", "wait=8"}, 8 * time.Second, true},
		{"the first counts", []string{"wait=1, wait=2", "wait=3"}, time.Second, true},
		{"the first counts even if it is garbage", []string{"wait=soon, wait=2"}, 0, false},
		{"huge", []string{"wait=" + strings.Repeat("9", 400)}, longestWait, true},
		{"none", []string{"respond-async"}, 0, false},
		{"empty", []string{""}, 0, false},
		{"no value", []string{"wait"}, 0, false},
		{"empty value", []string{"wait="}, 0, false},
		{"negative", []string{"wait=-1"}, 0, false},
		{"sign", []string{"wait=+1"}, 0, false},
		{"exponent", []string{"wait=1e3"}, 0, false},
		{"hexadecimal", []string{"wait=0x10"}, 0, false},
		{"infinite", []string{"wait=Inf"}, 0, false},
		{"not a number", []string{"wait=NaN"}, 0, false},
		{"two dots", []string{"wait=1.2.3"}, 0, false},
		{"a dot", []string{"wait=."}, 0, false},
		{"a longer name", []string{"waiting=5"}, 0, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, ok := preferredWait(c.lines)
			require.Equal(t, c.ok, ok)
			require.Equal(t, c.want, got)
		})
	}
}

func TestAppliedWait(t *testing.T) {
	require.Equal(t, []string{"wait=60"}, appliedWait(time.Minute))
	require.Equal(t, []string{"wait=0.25"}, appliedWait(250*time.Millisecond))
}

func TestWantsNoCache(t *testing.T) {
	for lines, want := range map[string]bool{
		"no-cache": true, "No-Cache": true, "max-age=0, no-cache": true, " no-cache ": true, `no-cache="x"`: true,
		"": false, "no-store": false, "no-cacheable": false, "max-age=0": false,
	} {
		require.Equal(t, want, wantsNoCache([]string{lines}), lines)
	}
	require.True(t, wantsNoCache([]string{"no-store", "no-cache"}))
}

func TestWantsText(t *testing.T) {
	cases := []struct {
		accept string
		want   bool
	}{
		{"text/plain", true},
		{"TEXT/Plain", true},
		{"text/plain; charset=utf-8", true},
		{"text/*", true},
		{"text/plain, application/json;q=0.9", true},
		{"text/plain;q=0.2, application/json;q=0.1", true},
		{"text/plain, */*", true},
		{"text/plain, */*;q=0.1", true},
		{"text/plain;q=nonsense", true},
		{"*/*", false},
		{"application/json", false},
		{"", false},
		{"application/json, text/plain, */*", false}, // axios
		{"text/plain;q=0.5, application/json", false},
		{"text/plain;q=0, */*", false},
		{"text/plain;q=0", false},
		{"text/html", false},
		{"text/html, */*", false},
	}
	for _, c := range cases {
		t.Run(c.accept, func(t *testing.T) {
			require.Equal(t, c.want, wantsText([]string{c.accept}))
		})
	}
	require.True(t, wantsText([]string{"application/json;q=0.5", "text/plain"}), "several lines")
}

func FuzzPreferences(f *testing.F) {
	for _, s := range []string{"wait=5", `wait="0.5", wait=9`, "no-cache", "text/plain;q=0.5,*/*", "wait=1e9", ",;=,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		wait, ok := preferredWait([]string{s})
		require.GreaterOrEqual(t, wait, time.Duration(0))
		require.LessOrEqual(t, wait, longestWait)
		if ok {
			require.Contains(t, strings.ToLower(s), "wait")
			again, ok := preferredWait(appliedWait(wait))
			require.True(t, ok, "what was applied can be asked for")
			require.InDelta(t, wait.Seconds(), again.Seconds(), 1e-6)
		}
		if wantsNoCache([]string{s}) {
			require.Contains(t, strings.ToLower(s), "no-cache")
		}
		if wantsText([]string{s}) {
			require.Contains(t, strings.ToLower(s), "text/")
		}
	})
}
