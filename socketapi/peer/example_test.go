package peer_test

import (
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"

	"github.com/grantexd/grantexd/socketapi/peer"
)

func ExampleOf() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "socket")
	ln, err := net.Listen("unix", path)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	client, err := net.Dial("unix", path)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	conn, err := ln.Accept()
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close() }()

	caller := peer.Of(conn.(*net.UnixConn))
	pid, known := caller.PID.Get()
	fmt.Println("it is me:", known && int(pid) == os.Getpid())
	// Output: it is me: true
}

func ExampleFact() {
	unit := peer.TCP().Unit
	if _, known := unit.Get(); !known {
		fmt.Println("no unit:", unit.Reason())
	}
	// Output: no unit: a TCP connection has no peer credentials
}
