package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
)

// Handover keeps content for the process that follows this one under the same
// service: over a restart, an upgrade and a SIGKILL, but not over a stop. The
// content lies in a sealed memfd in the manager's store of descriptors, so it
// never touches a disk. Make one with [NewHandover]. Outside systemd its methods
// do nothing and return nil.
//
// It is safe for concurrent use: when [Handover.Remove] has returned nil, no
// [Handover.Store] that began before it can bring its content back.
type Handover struct {
	name string

	mu        sync.Mutex // makes removal and replacement one step
	inherited []*os.File // not yet taken
}

// NewHandover returns the hand-over of that name and takes what an earlier
// process left under it out of in, which may be nil. The name is how the store
// tells descriptors apart: it must stay the same from version to version, or
// content of the older one stays behind. It sends nothing.
func NewHandover(name string, in *Inherited) (*Handover, error) {
	if err := checkDescriptorName(name); err != nil {
		return nil, err
	}
	h := &Handover{name: name}
	if in != nil {
		h.inherited = in.Stored[name]
		delete(in.Stored, name)
	}
	return h, nil
}

// Available reports whether content given to [Handover.Store] goes anywhere, so
// that nobody collects secrets in vain.
func (h *Handover) Available() bool { return managed() }

// Take returns what the process before this one stored, or nil if there is
// nothing. It gives the content once and removes it from the store, so that
// content which brings the reader down does so only once; store again what has
// proved good.
//
// It returns an error, and no content, if what was stored is no sealed memfd of
// at most [MaxSealed] bytes, or if there are several.
func (h *Handover) Take() ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	files := h.inherited
	h.inherited = nil
	if len(files) == 0 {
		return nil, nil
	}
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	if err := sendRemove(h.name); err != nil {
		return nil, err
	}
	if len(files) > 1 {
		return nil, fmt.Errorf("hand-over %s: %d were stored, and none can be told to be the last", h.name, len(files))
	}
	content, err := ReadSealed(files[0])
	if err != nil {
		return nil, fmt.Errorf("hand-over %s: %w", h.name, err)
	}
	return content, nil
}

// Store replaces what is kept for the next process. If it fails, then nothing is
// kept, rather than something that is out of date.
func (h *Handover) Store(content []byte) error {
	return h.StoreIf(content, func() bool { return true })
}

// StoreIf is [Handover.Store] unless current says that the content is out of
// date. It is asked when no [Handover.Remove] can come in between any more: who
// lets it return false and then calls Remove knows that the content is not kept
// after that.
func (h *Handover) StoreIf(content []byte, current func() bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !managed() || !current() {
		return nil
	}
	f, err := SealedMemfd(h.name, content)
	if err != nil {
		return errors.Join(err, sendRemove(h.name))
	}
	defer func() { _ = f.Close() }()
	// In this order, since a removal goes by the name and would take the new
	// one along.
	if err := sendRemove(h.name); err != nil {
		return err
	}
	return sendStore(h.name, f)
}

// Remove drops what is kept and returns nil only when the manager has confirmed
// that it is gone, or 5 s later with an error: until then the next process might
// still get it. What was not yet taken is dropped too.
func (h *Handover) Remove(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.inherited {
		_ = f.Close()
	}
	h.inherited = nil
	if err := sendRemove(h.name); err != nil {
		return err
	}
	if err := barrier(ctx); err != nil {
		return fmt.Errorf("remove hand-over %s: %w", h.name, err)
	}
	return nil
}
