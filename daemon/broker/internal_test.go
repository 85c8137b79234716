package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/clock"
	"github.com/grantexd/grantexd/upstream/secret"
)

// exchangeFunc is an Upstream that says nothing of departures.
type exchangeFunc func(token, service string) (*upstream.Credential, error)

func (f exchangeFunc) Exchange(_ context.Context, token secret.Text, service string) (*upstream.Credential, error) {
	return f(token.Reveal(), service)
}

func newInternal(t *testing.T, up Upstream) *Broker {
	t.Helper()
	b, err := New(Options{
		Upstream: up, Clock: clock.NewFake(), Reread: func(context.Context) error { return nil },
		Fingerprint: func(s secret.Text) string { return s.Reveal() },
		Render:      func(c *upstream.Credential, _ string) any { return c.AccessToken.Reveal() },
	})
	require.NoError(t, err)
	return b
}

func consentNumber(n int) grant.Snapshot {
	g := &grant.Grant{Token: secret.New(fmt.Sprint(n)), Claims: grant.Claims{GrantID: fmt.Sprint(n)}}
	g.Hash[0], g.Hash[1] = byte(n), byte(n>>8)
	return grant.Snapshot{State: grant.Usable, Grant: g}
}

func TestRefreshTime(t *testing.T) {
	b := newInternal(t, exchangeFunc(nil))
	const now = time.Hour
	for life, lead := range map[time.Duration]time.Duration{
		time.Second: 0, time.Minute - 1: 0,
		time.Minute:       30 * time.Second, // half of the life
		100 * time.Second: 30 * time.Second, // 20 % are less than the least
		150 * time.Second: 30 * time.Second,
		200 * time.Second: 40 * time.Second, // 20 %
		25 * time.Minute:  5 * time.Minute,
		8 * time.Hour:     5 * time.Minute, // the most
		farAway:           5 * time.Minute,
	} {
		for range 100 {
			at := b.refreshTime(life, now)
			if lead == 0 {
				require.Zero(t, at, life)
				continue
			}
			require.GreaterOrEqual(t, at, max(now+30*time.Second, now+life-lead*11/10), life)
			require.LessOrEqual(t, at, max(now+30*time.Second, now+life-lead*9/10), life)
		}
	}
}

func TestFreshWithoutExpiryGrowsWithTheirNumber(t *testing.T) {
	b := newInternal(t, exchangeFunc(nil))
	fresh := func(services int) time.Duration {
		clear(b.services)
		for i := range services {
			b.service(fmt.Sprint(i)).held = &held{}
		}
		return b.freshWithoutExpiry(b.service("0"))
	}
	require.Equal(t, 5*time.Minute, fresh(1))
	require.Equal(t, 5*time.Minute, fresh(59), "59 × 61 s / 12 are less than five minutes")
	require.Equal(t, 305*time.Second, fresh(60))
	require.Equal(t, 120*61*time.Second/12, fresh(120))
}

func TestDoubled(t *testing.T) {
	for n, want := range map[int]int{0: 1, 1: 1, 2: 2, 3: 4, 4: 8, 5: 10, 1000: 10} {
		require.Equal(t, time.Duration(want)*time.Second, doubled(time.Second, 10*time.Second, n), n)
	}
	require.Equal(t, time.Second, doubled(time.Minute, time.Second, 1))
}

func TestHumanize(t *testing.T) {
	for wait, want := range map[time.Duration]time.Duration{
		-time.Hour: time.Second, 0: time.Second, 1: time.Second, time.Second: time.Second,
		time.Second + 1: 2 * time.Second, 40 * time.Second: 40 * time.Second,
	} {
		require.Equal(t, want, humanize(wait), wait)
	}
}

func TestUnixNano(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 5, time.UTC)
	require.Equal(t, now.UnixNano(), unixNano(now))
	require.EqualValues(t, 1, unixNano(time.Unix(0, 0)), "0 stands for no time")
	require.Positive(t, unixNano(time.Time{}))
	require.Less(t, unixNano(time.Time{}), unixNano(now))
	for _, year := range []int{2263, 9999, math.MaxInt32} {
		require.Greater(t, unixNano(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)), unixNano(now), year)
	}
}

// Whatever callers invent leaves nothing behind once it has been forgotten.
func TestNothingIsKeptOfInventedNamesAndReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := false
		b := newInternal(t, exchangeFunc(func(_, service string) (*upstream.Credential, error) {
			if failing {
				return nil, errors.New("broken")
			}
			if service == "github" {
				return &upstream.Credential{AccessToken: secret.New("t"), Service: service}, nil
			}
			return nil, &upstream.Error{Status: 404, Code: "NOT_FOUND", RequestID: "1"}
		}))
		b.SetGrant(consentNumber(1))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		for i := range 600 {
			caller := fmt.Sprint("uid:", i)
			_, err := b.Get(t.Context(), Request{Service: fmt.Sprint("name", i), Caller: caller, Wait: time.Second})
			require.Error(t, err)
			_, _ = b.Rejected(t.Context(), Request{Service: "github", Caller: caller, Wait: time.Second}, "t")
			time.Sleep(time.Second)
		}
		services, _ := b.sizes()
		require.LessOrEqual(t, services, 50, "those of the last half minute, give or take a look of Run")
		failing = true
		for i := range 100 {
			_, _ = b.Get(t.Context(), Request{Service: fmt.Sprint("other", i), Caller: fmt.Sprint("uid:", i), Wait: time.Second})
			time.Sleep(time.Second)
		}
		time.Sleep(2 * time.Hour)
		services, callers := b.sizes()
		require.Zero(t, callers)
		require.Equal(t, 1, services, "github is known")
		cancel()
		require.NoError(t, <-done)
	})
}

// sizes is how many services and callers there are accounts of.
func (b *Broker) sizes() (services, callers int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.services), len(b.callers)
}

// A read that starts after SetGrant has returned never gets what belongs to the
// consent before, however many read meanwhile.
func TestSetGrantIsABarrier(t *testing.T) {
	b := newInternal(t, exchangeFunc(func(token, service string) (*upstream.Credential, error) {
		return &upstream.Credential{AccessToken: secret.New(token), Service: service}, nil
	}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	var inForce atomic.Int64
	var readers sync.WaitGroup
	var hits atomic.Int64
	for r := range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				least := inForce.Load()
				a, err := b.Get(ctx, Request{Service: fmt.Sprint("s", r%2), Caller: "uid:1", Wait: time.Second})
				if err != nil {
					continue
				}
				hits.Add(1)
				var got int64
				_, _ = fmt.Sscan(a.Rendered.(string), &got)
				if got < least {
					t.Errorf("got a credential of consent %d while %d was in force", got, least)
					return
				}
			}
		})
	}
	for n := 1; n <= 60; n++ {
		switch n % 3 {
		case 0:
			b.SetGrant(grant.Snapshot{State: grant.Withdrawn})
		default:
			b.SetGrant(consentNumber(n))
		}
		inForce.Store(int64(n))
		for before := hits.Load(); n%3 != 0 && hits.Load() < before+5 && ctx.Err() == nil; {
			_, _ = b.Get(ctx, Request{Service: "s0", Caller: "uid:1", Wait: time.Second})
		}
	}
	cancel()
	readers.Wait()
	require.NoError(t, <-done)
}

// failsWith runs a broker on an Upstream that fails before anything departs, and
// returns what a patient caller gets.
func failsWith(t *testing.T, err error, then func(b *Broker, e *Error, took time.Duration)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newInternal(t, exchangeFunc(func(string, string) (*upstream.Credential, error) { return nil, err }))
		b.SetGrant(consentNumber(1))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		began := time.Now()
		_, err := b.Get(t.Context(), Request{Service: "github", Caller: "uid:1", Wait: 10 * time.Second})
		var e *Error
		require.ErrorAs(t, err, &e)
		then(b, e, time.Since(began))
		cancel()
		require.NoError(t, <-done)
	})
}

func TestAnUpstreamWithoutASlotIsNoFailureOfTheVault(t *testing.T) {
	failsWith(t, &upstream.NoSlotError{Wait: 7 * time.Second}, func(b *Broker, e *Error, took time.Duration) {
		require.Equal(t, KindRateLimited, e.Kind)
		require.Equal(t, 7*time.Second, e.RetryAfter)
		require.Zero(t, took)
		require.Empty(t, b.Status().LastError)
	})
}

func TestTheFlightThatBeginsAnOutageIsAnswered(t *testing.T) {
	failsWith(t, upstream.ErrConnect, func(b *Broker, e *Error, took time.Duration) {
		require.Equal(t, KindUpstream, e.Kind)
		require.Zero(t, took, "at once, not after a cool-down")
		require.NotEmpty(t, b.Status().LastError)
	})
}

// countingClock counts how often it is looked at.
type countingClock struct {
	clock.Clock
	looks atomic.Int64
}

func (c *countingClock) Boot() time.Duration {
	c.looks.Add(1)
	return c.Clock.Boot()
}

// A daemon that nobody asks anything must let the machine sleep.
func TestAnIdleBrokerSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInternal(t, exchangeFunc(func(_, service string) (*upstream.Credential, error) {
			return &upstream.Credential{AccessToken: secret.New("t"), Service: service}, nil
		}))
		c := &countingClock{Clock: b.clock}
		b.clock = c
		b.SetGrant(consentNumber(1))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		for range 3 {
			_, err := b.Get(t.Context(), Request{Service: "github", Caller: "uid:1", Wait: time.Second})
			require.NoError(t, err)
			time.Sleep(20 * time.Minute)
		}
		c.looks.Store(0)
		time.Sleep(10 * time.Minute)
		require.LessOrEqual(t, c.looks.Load(), int64(2*10*60/15), "Run looks once in 15 s")
		cancel()
		require.NoError(t, <-done)
	})
}

// Run may end before it has launched what was asked for.
func TestStoppingTellsWhoWasNotLaunched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 20 {
			b := newInternal(t, exchangeFunc(func(string, string) (*upstream.Credential, error) {
				return nil, &upstream.Error{Status: 500}
			}))
			b.SetGrant(consentNumber(1))
			told := make(chan error, 1)
			began := time.Now()
			go func() {
				_, err := b.Get(t.Context(), Request{Service: "github", Caller: "uid:1", Wait: time.Minute})
				told <- err
			}()
			synctest.Wait()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			require.NoError(t, b.Run(ctx))
			require.Error(t, <-told)
			require.Zero(t, time.Since(began))
		}
	})
}

// departing is an Upstream whose one exchange takes two attempts.
type departing struct{ first, second time.Duration }

func (d departing) Exchange(ctx context.Context, _ secret.Text, service string) (*upstream.Credential, error) {
	dep := upstream.DepartureFrom(ctx)
	dep.Departed()
	time.Sleep(d.first)
	dep.Departed()
	time.Sleep(d.second)
	return &upstream.Credential{AccessToken: secret.New("t"), Service: service}, nil
}

func TestARetryConfirmsAsOfItsOwnDeparture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInternal(t, departing{first: 5 * time.Second, second: time.Second})
		b.SetGrant(consentNumber(1))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		_, err := b.Get(t.Context(), Request{Service: "github", Caller: "uid:1", Wait: 10 * time.Second})
		require.NoError(t, err)
		require.Equal(t, time.Second, b.Status().Confirmed)
		cancel()
		require.NoError(t, <-done)
	})
}
