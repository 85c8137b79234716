package socketapi

import (
	"math"
	"sync"

	"golang.org/x/sys/unix"
)

// account is on whose account a connection goes: a uid, or one of the values
// above the uids.
type account uint64

const (
	// accountUnknown is for connections whose uid the kernel would not tell.
	accountUnknown account = 1 << 32
	// accountTCP is for all connections to the loopback address, which come
	// without a uid. As one account they can't take the sockets' share.
	accountTCP account = 1<<32 + 1
)

// verdict says whether a connection fits the limits.
type verdict int

const (
	admitted verdict = iota
	tooManyOfAccount
	tooMany
)

// connLimits counts connections in all and for each account.
//
// The last quarter of all connections is for accounts that have few: users who
// fill the daemon up to there don't lock out one who comes later.
type connLimits struct {
	max        int // connections in all
	perAccount int // connections of one account
	reserve    int // of max, for accounts with fewer than few
	few        int

	mu        sync.Mutex // guards the rest
	total     int
	byAccount map[account]int
}

// few is one in fewOf of all connections, 16 of the default 4096, so that 64 late
// users fit the reserve, and never less than fewest, so that a daemon with small
// limits is of use to them.
const (
	fewOf  = 256
	fewest = 4
)

func newConnLimits(maxAll, perAccount int) *connLimits {
	return &connLimits{
		max:        maxAll,
		perAccount: perAccount,
		reserve:    maxAll / 4,
		few:        max(fewest, maxAll/fewOf),
		byAccount:  make(map[account]int),
	}
}

// admit counts a connection of who if it fits; leave undoes it.
func (l *connLimits) admit(who account) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	open := l.byAccount[who]
	switch {
	case open >= l.perAccount:
		return tooManyOfAccount
	case l.total >= l.max:
		return tooMany
	case l.total >= l.max-l.reserve && open >= l.few:
		return tooManyOfAccount
	}
	l.total++
	l.byAccount[who] = open + 1
	return admitted
}

// leave ends a connection that was admitted.
func (l *connLimits) leave(who account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.byAccount[who]--; l.byAccount[who] == 0 {
		delete(l.byAccount, who) // uids come and go; the map must not grow
	}
}

// otherDescriptors is how many file descriptors the daemon needs besides those of
// connections: listeners, logs, the ledger, the watched grant, the vault, and the
// process of a caller while it is identified.
const otherDescriptors = 96

// affordable lowers a limit on connections to what the process's limit on file
// descriptors leaves for them. Without that, accept itself would fail at some
// point, for everybody.
func affordable(conns int) int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return conns
	}
	return affordableOf(conns, limit.Cur)
}

func affordableOf(conns int, descriptors uint64) int {
	available := int(min(descriptors, math.MaxInt32)) // "unlimited" is far beyond
	// Half of very few is better than none.
	return min(conns, max(available-otherDescriptors, available/2))
}
