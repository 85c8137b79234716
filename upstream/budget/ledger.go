package budget

// ledger is where the window outlives the process, shared with other
// instances.
type ledger interface {
	// update locks the ledger, calls decide with its content, and unlocks it.
	// created is true if there was none. decide may call save, which replaces
	// the content; it does so at once, and completely or with an error. If a
	// created ledger is not saved, it is removed again.
	//
	// With patience, update waits for a lock that another process holds, but
	// never for more than about a tenth of a second. It returns an error of
	// its own, or that of decide.
	update(patience bool, decide func(content []byte, created bool, save func([]byte) error) error) error
}
