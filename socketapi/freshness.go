package socketapi

import (
	"strconv"
	"time"
)

// cacheName is this cache's name in Cache-Status (RFC 9211, section 2).
const cacheName = "grantexd"

// freshness holds the header values that depend on when a held credential is
// read. They change once a second at most, so the readers of a second share one.
type freshness struct {
	ttl, age, unconfirmed int64 // whole seconds
	cacheStatus, ageValue []string
}

// freshnessOf returns the header values for a hit, from the last one if nothing
// has changed since.
func (p *payload) freshnessOf(a *Answer) *freshness {
	ttl, age, unconfirmed := floorSeconds(a.TTL), floorSeconds(a.Age), floorSeconds(a.Unconfirmed)
	if f := p.freshness.Load(); f != nil && f.ttl == ttl && f.age == age && f.unconfirmed == unconfirmed {
		return f
	}
	f := newFreshness("; hit", ttl, age, unconfirmed)
	p.freshness.Store(f)
	return f
}

// missFreshness returns the header values of an answer that an exchange was made
// or waited for, with the reason why (RFC 9211, section 2.2).
func missFreshness(a *Answer, noCache bool) *freshness {
	outcome := "; fwd=miss; stored"
	if noCache {
		outcome = "; fwd=request; stored"
	}
	return newFreshness(outcome, floorSeconds(a.TTL), floorSeconds(a.Age), floorSeconds(a.Unconfirmed))
}

func newFreshness(outcome string, ttl, age, unconfirmed int64) *freshness {
	b := make([]byte, 0, 96)
	b = append(b, cacheName...)
	b = append(b, outcome...)
	b = append(b, "; ttl="...)
	b = strconv.AppendInt(b, ttl, 10)
	if unconfirmed > 0 {
		b = append(b, `; detail="grant unconfirmed for `...)
		b = strconv.AppendInt(b, unconfirmed, 10)
		b = append(b, ` s"`...)
	}
	return &freshness{
		ttl: ttl, age: age, unconfirmed: unconfirmed,
		cacheStatus: []string{string(b)},
		// Age is never negative (RFC 9111, section 5.1).
		ageValue: []string{strconv.FormatInt(max(age, 0), 10)},
	}
}

// floorSeconds rounds towards the past, so that half a second after its end a
// ttl is -1 and not 0.
func floorSeconds(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d%time.Second < 0 {
		s--
	}
	return s
}
