package socketapi

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/grantexd/grantexd/socketapi/wire"
)

// TCPOptions describe a loopback listener, for SDKs that can't use a Unix socket.
type TCPOptions struct {
	// Address is host:port, where host is localhost (which means 127.0.0.1) or
	// a loopback address, and port 0 stands for any free one. Required.
	Address string
	// TokenFile is where the local token is written, which every request must
	// bring. Required, absolute; its last directory is made, with mode 0755, if
	// it is missing.
	TokenFile string
	// Mode is the token file's mode; 0 means DefaultSocketMode.
	Mode fs.FileMode
	// Group is the token file's group, by name or number; "" leaves it to the
	// system.
	Group string
}

// TCPListener is a loopback listener that [ListenTCP] made. Closing it removes
// the token file, if that is still the one that it wrote.
type TCPListener struct {
	*net.TCPListener
	door     *tcpDoor
	identity fileIdentity
	once     sync.Once
	closeErr error
}

// tcpDoor is what a request on the loopback address must show, where the kernel
// does not tell who is calling.
type tcpDoor struct {
	// A pointer, so that printing whatever holds the door prints an address.
	token     *string
	tokenFile string
	// hosts are the values of Host that mean this listener.
	hosts []string
}

// ListenTCP listens on a loopback address and writes a new local token.
func ListenTCP(o TCPOptions) (*TCPListener, error) {
	address, err := loopbackAddress(o.Address)
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(o.TokenFile) {
		return nil, fmt.Errorf("token file %q: the path must be absolute", o.TokenFile)
	}
	asSocket := ListenOptions{Path: o.TokenFile, Mode: o.Mode, Group: o.Group}
	mode, gid, err := asSocket.permissions()
	if err != nil {
		return nil, err
	}
	inner, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(address))
	if err != nil {
		return nil, err
	}
	token := rand.Text() + rand.Text() // 26 base32 characters with 130 bits each
	identity, err := writeTokenFile(o.TokenFile, token, mode, gid)
	if err != nil {
		_ = inner.Close()
		return nil, fmt.Errorf("token file %s: %w", o.TokenFile, err)
	}
	port := inner.Addr().(*net.TCPAddr).Port
	door := &tcpDoor{token: &token, tokenFile: o.TokenFile, hosts: loopbackHosts(address.Addr(), port)}
	return &TCPListener{TCPListener: inner, door: door, identity: identity}, nil
}

// loopbackAddress parses host:port and refuses what other hosts could reach.
func loopbackAddress(s string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("listening address %q is not host:port: %w", s, err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("listening address %q: the port must be a number up to 65535", s)
	}
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.Unmap().IsLoopback() {
		return netip.AddrPort{}, fmt.Errorf(
			"listening address %q is no loopback address: credentials are handed out on this host only; use 127.0.0.1 or [::1]", s)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(number)), nil
}

// loopbackHosts returns the values of Host that mean a loopback listener.
func loopbackHosts(ip netip.Addr, port int) []string {
	names := []string{"localhost", "127.0.0.1", "[::1]", ip.String()}
	if ip.Is6() {
		names[3] = "[" + ip.String() + "]"
	}
	hosts := make([]string, 0, 2*len(names))
	for _, name := range names {
		hosts = append(hosts, name+":"+strconv.Itoa(port))
		if port == 80 {
			hosts = append(hosts, name) // the port that http leaves out
		}
	}
	return hosts
}

// check demands a Host that means this listener, and the local token.
func (d *tcpDoor) check(r *http.Request) error {
	if !slices.Contains(d.hosts, strings.ToLower(r.Host)) {
		return &wire.Error{
			Code:    wire.CodeForbiddenOrigin,
			Message: "the Host of a request to this address must be " + d.hosts[0] + ", or a loopback address with this port",
		}
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare([]byte(token), []byte(*d.token)) != 1 {
		return &wire.Error{
			Code: wire.CodeUnauthorized,
			Message: "this address takes only the local token as the grant token; it is in " + d.tokenFile +
				" and changes when grantexd starts",
		}
	}
	return nil
}

// writeTokenFile writes the token with its mode and group before it is there
// under its name.
func writeTokenFile(path, token string, mode fs.FileMode, gid int) (fileIdentity, error) {
	if err := makeDirectory(filepath.Dir(path)); err != nil {
		return fileIdentity{}, err
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // with 0600
	if err != nil {
		return fileIdentity{}, err
	}
	defer func() { _ = file.Close() }()
	if gid >= 0 {
		err = file.Chown(-1, gid)
	}
	if err == nil {
		err = file.Chmod(mode &^ 0o111) // a socket's mode, but nobody runs a token
	}
	if err == nil {
		_, err = file.WriteString(token)
	}
	var stat unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(file.Fd()), &stat)
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return fileIdentity{}, errors.Join(err, os.Remove(file.Name()))
	}
	return identityOf(&stat), nil
}

// TokenFile returns the path of the file that holds the local token.
func (l *TCPListener) TokenFile() string { return l.door.tokenFile }

// Close stops listening and removes the token file. It can be called again, with
// the same result.
func (l *TCPListener) Close() error {
	l.once.Do(func() {
		l.identity.remove(l.door.tokenFile)
		l.closeErr = l.TCPListener.Close()
	})
	return l.closeErr
}
