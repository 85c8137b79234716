package devvault

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// bbolt trusts its file: in a damaged one it panics on goroutines of its own,
// follows pages in circles, and takes the older of its two heads without a word,
// which loses the last transaction. So the whole structure is checked before
// bbolt sees the file. The format is that of bbolt's internal/common, version 2;
// numbers are in the machine's byte order.
//
// A file is a sequence of pages. The first two are heads:
//
//	16  magic, version, page size, flags (4 bytes each)
//	32  page of the root bucket's tree (8), its sequence (8)
//	48  page of the free list (8)
//	56  number of pages in use (8)
//	64  transaction (8)
//	72  FNV-1a of the bytes from 16 to here (8)
//
// The others are branches or leaves of trees:
//
//	 0  page (8), flags (2), number of elements (2), pages that follow it (4)
//	16  elements of 16 bytes
//	    in a branch: distance to the key (4), its length (4), page (8)
//	    in a leaf: flags (4), distance to the key (4), its length (4), the value's (4)
//
// The value of a leaf's element with flag 1 is a bucket: the page of its tree (8)
// and its sequence (8); without a page, the bucket's only leaf follows.
const (
	pageHeader  = 16
	elementSize = 16

	headMagic, headVersion, headPageSize = 16, 20, 24
	headRoot, headPages, headTx, headSum = 32, 56, 64, 72
	headEnd                              = 80

	boltMagic   = 0xED0CDAED
	boltVersion = 2

	flagBranch  = 1
	flagLeaf    = 2
	flagBucket  = 1
	bucketBytes = 16
)

// order is the byte order of the file.
var order = binary.NativeEndian

// checkFile checks the structure of the data file under a lock that is shared
// with other readers. It returns [ErrInUse] if another process may be writing.
func checkFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // which lets go of the lock
	if err := lockShared(f); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	c := pageChecker{file: f, seen: map[uint64]bool{}}
	root, err := c.heads(uint64(info.Size()))
	if err == nil {
		err = c.tree(root, nil, nil)
	}
	return err
}

func lockShared(f *os.File) error {
	const again = 50 * time.Millisecond
	for start := time.Now(); ; time.Sleep(again) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("locking it: %w", err)
		case time.Since(start) >= lockTimeout:
			return ErrInUse
		}
	}
}

// pageChecker checks one file.
type pageChecker struct {
	file  io.ReaderAt
	pages uint64 // in use, according to the newer head
	// seen are the pages met so far: each belongs to one place.
	seen map[uint64]bool
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

// heads checks both heads, and that all pages are there. It returns the page of
// the root bucket. A kill can't tear a head, since it is far smaller than what is
// written at once: one that does not add up is damage.
func (c *pageChecker) heads(fileBytes uint64) (root uint64, err error) {
	var heads [2 * filePageBytes]byte
	if _, err := c.file.ReadAt(heads[:], 0); errors.Is(err, io.EOF) {
		return 0, damaged("it ends in its first pages")
	} else if err != nil {
		return 0, err
	}
	var newest uint64
	for i := range 2 {
		head := heads[i*filePageBytes:][:headEnd]
		sum := fnv.New64a()
		_, _ = sum.Write(head[headMagic:headSum])
		if order.Uint32(head[headMagic:]) != boltMagic || order.Uint32(head[headVersion:]) != boltVersion ||
			order.Uint32(head[headPageSize:]) != filePageBytes || order.Uint64(head[headSum:]) != sum.Sum64() {
			return 0, damaged("head %d of 2 does not add up", i+1)
		}
		if tx := order.Uint64(head[headTx:]); tx >= newest {
			newest = tx
			root, c.pages = order.Uint64(head[headRoot:]), order.Uint64(head[headPages:])
		}
	}
	if has := fileBytes / filePageBytes; has < c.pages {
		return 0, damaged("it was cut off, with %d pages of %d left", has, c.pages)
	}
	return root, nil
}

// tree checks the tree below a page. Its keys are to be at least low and, unless
// that is nil, below high.
func (c *pageChecker) tree(id uint64, low, high []byte) error {
	page, err := c.page(id)
	if err != nil {
		return err
	}
	return c.elements(id, page, low, high)
}

// page reads a page with those that follow it, and checks its header.
func (c *pageChecker) page(id uint64) ([]byte, error) {
	if id < 2 || id >= c.pages {
		return nil, damaged("there is no page %d", id)
	}
	var header [pageHeader]byte
	if _, err := c.file.ReadAt(header[:], int64(id*filePageBytes)); err != nil {
		return nil, err
	}
	more := uint64(order.Uint32(header[12:]))
	if order.Uint64(header[:]) != id || more >= c.pages-id {
		return nil, damaged("page %d is none", id)
	}
	for one := id; one <= id+more; one++ {
		if c.seen[one] {
			return nil, damaged("page %d is in two places", one)
		}
		c.seen[one] = true
	}
	page := make([]byte, (1+more)*filePageBytes)
	_, err := c.file.ReadAt(page, int64(id*filePageBytes))
	return page, err
}

// elements checks the elements of a page, and the trees below them.
func (c *pageChecker) elements(id uint64, page, low, high []byte) error {
	flags, count := order.Uint16(page[8:]), int(order.Uint16(page[10:]))
	branch := flags == flagBranch
	if !branch && flags != flagLeaf || branch && count == 0 {
		return damaged("page %d is neither branch nor leaf", id)
	}
	if pageHeader+count*elementSize > len(page) {
		return damaged("page %d has more elements than room", id)
	}
	all := make([]element, count)
	for i := range all {
		var ok bool
		if all[i], ok = elementAt(page, i, branch); !ok {
			return damaged("page %d has an element outside of it", id)
		}
		first := i == 0 && (low == nil || bytes.Compare(all[i].key, low) >= 0)
		if !first && (i == 0 || bytes.Compare(all[i].key, all[i-1].key) <= 0) ||
			high != nil && bytes.Compare(all[i].key, high) >= 0 {
			return damaged("page %d is out of order", id)
		}
	}
	for i, e := range all {
		end := high
		if i+1 < count {
			end = all[i+1].key
		}
		var err error
		switch {
		case branch:
			err = c.tree(e.page, e.key, end)
		case e.flags == flagBucket:
			err = c.bucket(id, e.value)
		case e.flags != 0:
			err = damaged("page %d has an element of no kind", id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket checks the bucket that is the value of an element.
func (c *pageChecker) bucket(id uint64, value []byte) error {
	if len(value) < bucketBytes {
		return damaged("page %d has a bucket cut off", id)
	}
	if root := order.Uint64(value); root != 0 {
		return c.tree(root, nil, nil)
	}
	inline := value[bucketBytes:]
	if len(inline) < pageHeader || order.Uint16(inline[8:]) != flagLeaf {
		return damaged("page %d has a bucket cut off", id)
	}
	return c.elements(id, inline, nil, nil)
}

// element is one element of a page.
type element struct {
	flags      uint32
	key, value []byte // of a leaf
	page       uint64 // of a branch
}

// elementAt reads the element i, whose place is inside the page. It returns false
// if what it points at is not.
func elementAt(page []byte, i int, branch bool) (element, bool) {
	at := page[pageHeader+i*elementSize:]
	var e element
	var distance, keyBytes, valueBytes uint64
	if branch {
		distance, keyBytes = uint64(order.Uint32(at)), uint64(order.Uint32(at[4:]))
		e.page = order.Uint64(at[8:])
	} else {
		e.flags = order.Uint32(at)
		distance, keyBytes = uint64(order.Uint32(at[4:])), uint64(order.Uint32(at[8:]))
		valueBytes = uint64(order.Uint32(at[12:]))
	}
	if distance+keyBytes+valueBytes > uint64(len(at)) {
		return element{}, false
	}
	at = at[distance:]
	e.key, e.value = at[:keyBytes], at[keyBytes:keyBytes+valueBytes]
	return e, true
}
