package upstream_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/grantexd/grantexd/upstream"
)

// tlsVault serves goodBody under a certificate of its own CA for vault.example
// and 127.0.0.1, and returns the CA's file.
func tlsVault(t *testing.T, notAfter time.Time) (srv *httptest.Server, caFile string, versions *atomic.Value) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"vault.example"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))

	versions = new(atomic.Value)
	srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		versions.Store(r.Proto)
		_, _ = io.WriteString(w, goodBody)
	}))
	srv.Config.ErrorLog = quiet()
	srv.EnableHTTP2 = true
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv, caFile, versions
}

func withCA(file string) func(*upstream.Options) {
	return func(o *upstream.Options) { o.CAFile = file }
}

func TestPrivateCA(t *testing.T) {
	srv, caFile, proto := tlsVault(t, time.Now().Add(time.Hour))
	_, err := newClient(t, srv.URL, withCA(caFile)).Exchange(t.Context(), grant, "github")
	require.NoError(t, err)
	require.Equal(t, "HTTP/2.0", proto.Load())

	srv.TLS.NextProtos = []string{"http/1.1"} // for the connections to come
	_, err = newClient(t, srv.URL, withCA(caFile)).Exchange(t.Context(), grant, "github")
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1", proto.Load())
}

func TestUntrustedVault(t *testing.T) {
	good, caFile, _ := tlsVault(t, time.Now().Add(time.Hour))
	expired, expiredCA, _ := tlsVault(t, time.Now().Add(-time.Hour))
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	port := good.Listener.Addr().(*net.TCPAddr).Port
	for _, tt := range []struct {
		name, url, ca, says string
		cert                bool
	}{
		{"unknown CA", good.URL, "", "x509", true},
		{"other CA", good.URL, expiredCA, "x509", true},
		{"expired certificate", expired.URL, expiredCA, "expired", true},
		{"other name", fmt.Sprintf("https://localhost:%d", port), caFile, "localhost", true},
		{"no TLS", "https://" + plain.Listener.Addr().String(), caFile, "does not speak TLS", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			attempts := 0
			c := newClient(t, tt.url, withCA(tt.ca), func(o *upstream.Options) {
				o.Wrap = func(next http.RoundTripper) http.RoundTripper {
					return roundTripFunc(func(r *http.Request) (*http.Response, error) {
						attempts++
						return next.RoundTrip(r)
					})
				}
			})
			_, err := c.Exchange(t.Context(), grant, "github")
			require.ErrorIs(t, err, upstream.ErrConnect)
			require.Contains(t, err.Error(), tt.says)
			require.Equal(t, 1, attempts, "trust is not a matter of trying again")
			var cert *tls.CertificateVerificationError
			if tt.cert {
				require.ErrorAs(t, err, &cert)
			}
		})
	}
}

func TestCAFileErrors(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, []byte("no certificate"), 0o600))
	for name, tt := range map[string]struct{ file, says string }{
		"missing": {filepath.Join(t.TempDir(), "no.pem"), "no such file"},
		"no PEM":  {empty, "holds no certificate in PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := upstream.New(upstream.Options{BaseURL: "https://vault.example", CAFile: tt.file})
			require.ErrorContains(t, err, tt.says)
		})
	}
}

func TestTransportIsSane(t *testing.T) {
	tr, err := upstream.NewTransport("")
	require.NoError(t, err)
	require.EqualValues(t, tls.VersionTLS12, tr.TLSClientConfig.MinVersion)
	require.False(t, tr.TLSClientConfig.InsecureSkipVerify)
	require.NotZero(t, tr.TLSHandshakeTimeout)
	require.NotZero(t, tr.IdleConnTimeout)
	require.NotNil(t, tr.Proxy)
}

// connectProxy answers CONNECT with the status, and tunnels to target on 200.
func connectProxy(t *testing.T, status int, target string) (address string, asked *atomic.Value) {
	t.Helper()
	asked = new(atomic.Value)
	address, _ = listen(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		asked.Store(r.Method + " " + r.Host)
		_, _ = fmt.Fprintf(c, "HTTP/1.1 %d canary\r\n\r\n", status)
		if status != 200 {
			return
		}
		out, err := net.Dial("tcp", target)
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
		_, _ = io.Copy(c, out)
		_ = out.Close()
	})
	return address, asked
}

// net/http reads the proxy's variables once in a process, so that the call is
// made in a process of its own, by this very test.
func TestProxyFromEnvironment(t *testing.T) {
	if ca := os.Getenv("UPSTREAM_TEST_CA"); ca != "" {
		c := newClient(t, "https://vault.example", withCA(ca))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := c.Exchange(ctx, grant, "github")
		fmt.Printf("result: %v\n", err)
		return
	}
	srv, caFile, _ := tlsVault(t, time.Now().Add(time.Hour))
	proxy, asked := connectProxy(t, 200, srv.Listener.Addr().String())
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyFromEnvironment$")
	cmd.Env = append(os.Environ(), "UPSTREAM_TEST_CA="+caFile, "HTTPS_PROXY="+proxy, "https_proxy=", "NO_PROXY=", "no_proxy=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "result: <nil>")
	require.Equal(t, "CONNECT vault.example:443", asked.Load())
}

func TestProxyRefuses(t *testing.T) {
	for status, attempts := range map[int]int32{407: 1, 403: 1, 502: 2, 503: 2} {
		proxy, asked := connectProxy(t, status, "")
		tr, err := upstream.NewTransport("")
		require.NoError(t, err)
		var made atomic.Int32
		tr.Proxy = func(*http.Request) (*url.URL, error) {
			made.Add(1)
			return url.Parse(strings.Replace(proxy, "http://", "http://canary_user:canary_password@", 1))
		}
		c := newClient(t, "https://vault.example", func(o *upstream.Options) { o.Transport = tr })
		_, err = c.Exchange(t.Context(), grant, "github")
		require.ErrorIs(t, err, upstream.ErrConnect)
		require.Contains(t, err.Error(), fmt.Sprintf("the proxy answered %d to CONNECT", status))
		require.Equal(t, "CONNECT vault.example:443", asked.Load())
		require.Equal(t, attempts, made.Load(), "attempts at %d", status)
		requireNoCanary(t, err)
	}
}
