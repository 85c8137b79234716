package daemon

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/systemd"
)

const (
	// handoverName is under which name the cache lies in the service manager's
	// store of descriptors. It must stay the same from version to version.
	handoverName = "grantexd-cache"
	// handoverPause is how long changes of the cache are collected before it is
	// stored anew.
	handoverPause = 100 * time.Millisecond
	// removeTimeout bounds a purge's wait for the service manager.
	removeTimeout = 5 * time.Second
)

// handover keeps a copy of the cache with the service manager for the process
// that follows, in sealed memory and never on a disk. Outside systemd it does
// nothing, and the cache starts empty.
type handover struct {
	kept *systemd.Handover
	log  *slog.Logger
	// withheld counts the times at which nothing older may be handed over.
	withheld atomic.Uint64
}

func newHandover(in *systemd.Inherited, log *slog.Logger) (*handover, error) {
	kept, err := systemd.NewHandover(handoverName, in)
	if err != nil {
		return nil, err
	}
	return &handover{kept: kept, log: log}, nil
}

// take returns what the process before this one left, nil if nothing.
func (h *handover) take() []byte {
	content, err := h.kept.Take()
	if err != nil {
		h.log.Warn("the cache of the former process can't be used", "error", err)
	}
	return content
}

// restore takes over what was left. What can't be used is dropped, and nothing of
// its content is said.
func (h *handover) restore(b *broker.Broker, content []byte) {
	if content == nil {
		return
	}
	n, err := b.Restore(content)
	if err != nil {
		h.log.Warn("the cache of the former process can't be used", "error", err)
		return
	}
	h.log.Info("took over the cache of the former process", "credentials", n)
}

// withhold removes the copy before a purge counts as done.
func (h *handover) withhold() {
	h.withheld.Add(1)
	if !h.kept.Available() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	if err := h.kept.Remove(ctx); err != nil {
		h.log.Error("removing the copy of the cache from the service manager failed", "error", err)
	}
}

// run stores a copy after each change of the cache, until ctx ends, and then a
// last one.
func (h *handover) run(ctx context.Context, b *broker.Broker) error {
	if !h.kept.Available() {
		return nil
	}
	for {
		changed := b.CacheChanged()
		h.store(b)
		select {
		case <-ctx.Done():
			h.store(b)
			return nil
		case <-changed:
		}
		select {
		case <-ctx.Done():
		case <-time.After(handoverPause):
		}
	}
}

// store hands the present cache over, unless it was withheld meanwhile.
func (h *handover) store(b *broker.Broker) {
	before := h.withheld.Load()
	content := b.Snapshot()
	if content == nil {
		h.withhold()
		return
	}
	current := func() bool { return h.withheld.Load() == before }
	if err := h.kept.StoreIf(content, current); err != nil {
		h.log.Warn("storing a copy of the cache with the service manager failed", "error", err)
	}
}
