package devvault

import (
	"fmt"
	"net"
	"net/http"
	"strings"
)

// CheckAdminAddress returns an error if the admin API must not listen on addr
// (host:port), since others than this machine could reach it there: it gives out
// every credential in the vault. [Options].AllowRemoteAdmin does without.
func CheckAdminAddress(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("admin address %q is not host:port", addr)
	}
	if !loopbackHost(host) {
		return fmt.Errorf("admin address %q can be reached from other machines: use 127.0.0.1", addr)
	}
	return nil
}

// loopbackHost reports whether host names this machine and nothing else.
func loopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// guardAdmin refuses whoever has no business with the admin API: browsers, which
// can be made to send requests here by any page, and other machines.
func (s *Server) guardAdmin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if reason := s.refuseAdmin(r); reason != "" {
			adminError(w, http.StatusForbidden, reason)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuseAdmin returns why r is refused, "" if it is not.
func (s *Server) refuseAdmin(r *http.Request) string {
	for _, header := range []string{"Origin", "Referer", "Sec-Fetch-Site"} {
		if r.Header.Get(header) != "" {
			return "browsers may not use the admin API: the request has the header " + header
		}
	}
	if s.opts.AllowRemoteAdmin {
		return ""
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !loopbackAddr(local) || !loopbackRemote(r.RemoteAddr) {
		return "the admin API answers only on loopback addresses"
	}
	// A name that resolves to 127.0.0.1 is how a page gets around its origin.
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if !loopbackHost(strings.Trim(host, "[]")) {
		return "the admin API is asked for as localhost or 127.0.0.1, not by another name"
	}
	return ""
}

// loopbackAddr reports whether addr can't be reached from another machine: a
// loopback address, or nothing of IP at all.
func loopbackAddr(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// loopbackRemote is loopbackAddr for an address in text, as net/http has it.
func loopbackRemote(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err != nil || loopbackHost(host)
}
