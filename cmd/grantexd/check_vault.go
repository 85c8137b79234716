package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/grantexd/grantexd/upstream"
)

// clockTolerance is the difference of clocks from which somebody should look: the
// daemon's margin before an expiry.
const clockTolerance = 5 * time.Second

// checkVault asks the vault whether it is up, which it neither limits nor counts.
func (c *checkup) checkVault(ctx context.Context, getenv func(string) string) {
	u := c.config.Upstream
	vault, err := upstream.New(upstream.Options{
		BaseURL: u.URL, CAFile: u.CAFile, AttemptTimeout: u.AttemptTimeout, UserAgent: "grantexd/" + build().Version,
	})
	if err != nil {
		c.bad("upstream.url", "%s", err)
		return
	}
	defer vault.CloseIdleConnections()
	if proxy := proxyOf(getenv); proxy != "" {
		c.ok("upstream.url", "%s is set: the vault is asked through a proxy, unless NO_PROXY excepts it", proxy)
	} else if !c.resolves(ctx, vault.BaseURL()) {
		return
	}
	var seen handshake
	health, err := vault.Health(seen.watch(ctx))
	c.checkTLS(&seen, vault.BaseURL(), time.Now())
	if err != nil {
		c.bad("upstream.url", "%s: %s: %s", vault.BaseURL(), err, adviceFor(err))
		return
	}
	if health.Healthy {
		c.ok("upstream.url", "%s answers, in %s", vault.BaseURL(), health.RoundTrip.Round(time.Millisecond))
	} else {
		c.warn("upstream.url", "%s answers that something it needs is down (status %d): wait, or ask whoever runs it", vault.BaseURL(), health.Status)
	}
	c.checkClock(health)
}

// resolves looks the vault's name up, to tell a wrong name from a wrong port.
func (c *checkup) resolves(ctx context.Context, base string) bool {
	parsed, err := url.Parse(base)
	if err != nil {
		return true // the client takes it, and says more
	}
	host := parsed.Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		c.bad("upstream.dns", "the name %s can't be resolved: check upstream.url and this host's DNS", host)
		return false
	}
	c.ok("upstream.dns", "%s is %s", host, strings.Join(addresses, ", "))
	return true
}

// proxyOf returns the name of the variable that sets a proxy, not its value,
// which may hold a password.
func proxyOf(getenv func(string) string) string {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		if getenv(name) != "" {
			return name
		}
	}
	return ""
}

// adviceFor says what to do about a vault that can't be reached.
func adviceFor(err error) string {
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var answer *upstream.Error
	switch {
	case errors.As(err, &unknown):
		return "its certificate is from an authority that this host doesn't know; name it with upstream.ca-file"
	case errors.As(err, &hostname):
		return "its certificate is for another name; check upstream.url"
	case errors.As(err, &invalid):
		return "its certificate is not valid now; check this host's clock and the certificate"
	case errors.As(err, &record):
		return "it does not speak TLS; check scheme and port of upstream.url"
	case errors.As(err, &answer):
		return "something else than the vault answers; check upstream.url, the address without /v1"
	case errors.Is(err, upstream.ErrTimeout):
		return "check the network and firewalls on the way"
	}
	return "check upstream.url, and that the vault is up"
}

func (c *checkup) checkClock(health upstream.HealthResult) {
	switch offset := health.ClockOffset; {
	case health.Date.IsZero():
		c.warn("clock", "the vault does not tell its time, so clocks can't be compared")
	case offset.Abs() > clockTolerance:
		c.warn("clock", "the vault's clock differs from this host's by %s: set the one that is off (timedatectl)", seconds(offset.Seconds()))
	default:
		c.ok("clock", "this host's clock and the vault's agree")
	}
}
