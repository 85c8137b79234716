package daemon

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/grantexd/grantexd/daemon/broker"
)

// collector turns the daemon's own state into metrics when they are scraped, so
// that the two can't disagree. No metric carries a token, a principal or a
// caller.
type collector struct {
	source *source

	up, grantUsable, grantExpiry, confirmed        *prometheus.Desc
	held, stale, stuck, flights, waiters           *prometheus.Desc
	exchanges, failing, limited, clockOffset       *prometheus.Desc
	budgetLimit, budgetUsed, budgetFree, budgetWas *prometheus.Desc
	budgetPaced                                    *prometheus.Desc
}

func newCollector(s *source) *collector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("grantexd_"+name, help, nil, nil)
	}
	return &collector{
		source:      s,
		up:          desc("ready", "1 if reads of credentials can be answered."),
		grantUsable: desc("grant_usable", "1 if there is a grant token that is neither expired, withdrawn, under suspicion nor rejected."),
		grantExpiry: desc("grant_expiry_timestamp_seconds", "Unix time at which the grant token expires; absent without an expiry."),
		confirmed:   desc("grant_confirmed_age_seconds", "Seconds since the vault last accepted the grant token; absent if it never did."),
		held:        desc("credentials_held", "Credentials in the cache."),
		stale:       desc("credentials_stale", "Credentials in the cache that are served stale."),
		stuck:       desc("rotation_stuck", "Credentials that should have been renewed in the vault and were not."),
		flights:     desc("exchanges_in_flight", "Exchanges under way, those that wait for a slot of the budget included."),
		waiters:     desc("callers_waiting", "Callers that wait for an exchange."),
		exchanges:   desc("exchanges_total", "Exchanges that the vault answered, whatever the answer."),
		failing:     desc("upstream_failing_seconds", "Seconds since the vault began to fail; 0 if it does not."),
		limited:     desc("upstream_limited_seconds", "Seconds for which the vault asked to stay away; 0 if it does not."),
		clockOffset: desc("upstream_clock_offset_seconds", "Seconds by which the vault's clock is ahead of this host's; absent if not known."),
		budgetLimit: desc("budget_limit", "Departures allowed in a window."),
		budgetUsed:  desc("budget_used", "Slots of the budget that are taken."),
		budgetFree:  desc("budget_free", "Slots of the budget that are free."),
		budgetWas:   desc("budget_waiting", "Departures that wait for a slot."),
		budgetPaced: desc("budget_paced", "1 if the ledger can't be used and departures are spread out."),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	age := func(d *prometheus.Desc, v time.Duration) {
		if v >= 0 {
			gauge(d, v.Seconds())
		}
	}
	st := c.source.broker.Status()
	gauge(c.up, oneIf(c.source.broker.Ready() == nil))
	gauge(c.grantUsable, oneIf(st.Err == nil))
	if st.Claims != nil && !st.Claims.ExpiresAt.IsZero() {
		gauge(c.grantExpiry, float64(st.Claims.ExpiresAt.Unix()))
	}
	age(c.confirmed, st.Confirmed)
	gauge(c.held, float64(st.Held))
	gauge(c.stale, float64(st.Stale))
	gauge(c.stuck, float64(st.RotationStuck))
	gauge(c.flights, float64(st.Flights))
	gauge(c.waiters, float64(st.Waiters))
	ch <- prometheus.MustNewConstMetric(c.exchanges, prometheus.CounterValue, float64(st.Exchanges))
	c.collectUpstream(gauge, st)
	c.collectBudget(gauge)
}

func (c *collector) collectUpstream(gauge func(*prometheus.Desc, float64), st broker.Status) {
	gauge(c.failing, st.Failing.Seconds())
	gauge(c.limited, st.Limited.Seconds())
	if st.ClockKnown {
		gauge(c.clockOffset, clockOffset(st).Seconds())
	}
}

func (c *collector) collectBudget(gauge func(*prometheus.Desc, float64)) {
	b := c.source.budget.Status()
	gauge(c.budgetLimit, float64(b.Limit))
	gauge(c.budgetUsed, float64(b.Used))
	gauge(c.budgetFree, float64(b.Free))
	gauge(c.budgetWas, float64(b.Waiting))
	gauge(c.budgetPaced, oneIf(b.Paced != ""))
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// metricsHandler serves /metrics from a registry of our own: nothing of the
// process or of a library gets in by itself.
func metricsHandler(s *source) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(newCollector(s)); err != nil {
		return nil, err
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), nil
}
