// Package systemd is the Go side of running as a systemd service: sockets by
// activation, readiness, the watchdog and the store of file descriptors. All of
// it does nothing outside systemd. The unit files lie beside it.
//
// It stands on go-systemd and adds what that lacks: telling listening sockets
// from stored descriptors, sending descriptors to the store, waiting until the
// manager has worked through what it was sent, and the sealed memory in which
// secrets survive a restart without touching a disk.
package systemd
