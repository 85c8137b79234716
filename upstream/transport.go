package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// Limits of the transport's own. They leave room for a second try within the
// 15 seconds that a flight has.
const (
	// connectTimeout bounds the TCP connect and, by itself, the TLS handshake.
	connectTimeout = 5 * time.Second
	// idleTimeout is shorter than the minute after which load balancers
	// commonly drop idle connections without a word.
	idleTimeout = 50 * time.Second
	// pingAfter and pingTimeout find a dead HTTP/2 connection, as after a
	// laptop changed networks, within one attempt.
	pingAfter   = 5 * time.Second
	pingTimeout = 3 * time.Second
	// maxHeaderBytes bounds the header of an answer; the vault's has 1 KiB.
	maxHeaderBytes = 64 << 10
)

// NewTransport returns the transport that a [Client] uses if it is given none:
// HTTP/1.1 and 2, TLS 1.2 and up, a proxy from HTTPS_PROXY and NO_PROXY as in
// [http.ProxyFromEnvironment], no compression, and short timeouts for
// connecting. The certificates in caFile (PEM), if it is not "", are trusted
// besides the system's.
func NewTransport(caFile string) (*http.Transport, error) {
	roots, err := rootCAs(caFile)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    connectTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    4,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true, // the limit on a body counts the bytes that come
		OnProxyConnectResponse: refuseProxyError,
	}, nil
}

// rootCAs returns nil, the system's certificates, if there is no file.
func rootCAs(caFile string) (*x509.CertPool, error) {
	if caFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("reading the CA file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // an image without certificates
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the CA file %s holds no certificate in PEM", caFile)
	}
	return roots, nil
}

// proxyError is a proxy's refusal to connect to the vault. Without it net/http
// would hand on the proxy's own words.
type proxyError struct{ status int }

// Error says what the proxy answered.
func (e *proxyError) Error() string {
	return fmt.Sprintf("the proxy answered %d to CONNECT", e.status)
}

func refuseProxyError(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	return &proxyError{status: answer.StatusCode}
}
