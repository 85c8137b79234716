package grant

import (
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// sentry watches the directories of a [chain] by inotify(7).
//
// It watches no file: a file's own watch goes blind when it is replaced. And it
// watches the directories on the way as well, since moving one of them away
// takes the file along and is seen in its parent only.
type sentry struct {
	notify *fsnotify.Watcher // nil: nothing can be watched
	dirs   map[string]inode  // what is watched, and what was found there then
	every  time.Duration     // how often the file is polled without a watch, for the log
	log    *slog.Logger
	warned bool
}

// inode identifies a directory while it exists.
type inode struct{ dev, ino uint64 }

// newSentry returns a sentry with the watcher that start makes. If none can be
// had it warns once, and watches nothing.
func newSentry(start func() (*fsnotify.Watcher, error), every time.Duration, log *slog.Logger) *sentry {
	s := &sentry{dirs: make(map[string]inode), every: every, log: log}
	var err error
	if s.notify, err = start(); err != nil {
		s.notify = nil
		s.warn("", err)
	}
	return s
}

// events and errors are the watcher's channels, nil without a watcher.
func (s *sentry) events() <-chan fsnotify.Event {
	if s.notify == nil {
		return nil
	}
	return s.notify.Events
}

func (s *sentry) errors() <-chan error {
	if s.notify == nil {
		return nil
	}
	return s.notify.Errors
}

// follow watches the chain of path as it is now, and returns it. ok is false if
// a change can pass unseen, so that the file must be polled often.
func (s *sentry) follow(path string) (c chain, ok bool) {
	c = walk(path)
	if s.notify == nil {
		return c, false
	}
	// A link may be changed between the walk and the watch, unseen: go on until
	// a walk finds nothing new. A file that is replaced that often is watched
	// at the next event.
	for range 3 {
		var fresh bool
		fresh, ok = s.watch(c)
		if !fresh {
			break
		}
		c = walk(path)
	}
	return c, ok && c.complete
}

// watch brings the watches in line with c. It reports whether any is new, and
// whether all those are there by which a replaced file or link is seen.
func (s *sentry) watch(c chain) (fresh, ok bool) {
	for dir := range s.dirs {
		if _, wanted := c.dirs[dir]; !wanted {
			s.forget(dir)
		}
	}
	ok = true
	for dir, vital := range c.dirs {
		now, err := identify(dir)
		if was, watched := s.dirs[dir]; watched && (err != nil || was != now) {
			s.forget(dir)
		}
		if err == nil {
			// Also where it is watched already: the kernel drops a watch with
			// its directory, and a new directory can have the old inode.
			err = s.notify.Add(dir)
		}
		if err != nil {
			if vital {
				ok = false
				s.warn(dir, err)
			}
			continue
		}
		if _, watched := s.dirs[dir]; !watched {
			fresh = true
		}
		s.dirs[dir] = now
	}
	return fresh, ok
}

// forget drops the watch of dir.
func (s *sentry) forget(dir string) {
	delete(s.dirs, dir)
	_ = s.notify.Remove(dir) // it fails if the directory is gone, and its watch with it
}

func (s *sentry) close() {
	if s.notify != nil {
		_ = s.notify.Close() // nothing can be done about it, and nothing is lost
	}
}

// warn says once why dir, or anything, can't be watched and what to do. A
// directory that is just missing is none of it.
func (s *sentry) warn(dir string, err error) {
	if s.warned || errors.Is(err, fs.ErrNotExist) {
		return
	}
	s.warned = true
	remedy := "let the daemon's user read the directories on the grant file's path"
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOMEM) {
		remedy = "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches (sysctl), then restart"
	}
	s.log.Warn("can't watch the grant file, polling it instead",
		"error", err, "directory", dir, "poll_every", s.every, "remedy", remedy)
}

// identify returns the inode of the directory at path.
func identify(path string) (inode, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return inode{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return inode{dev: uint64(st.Dev), ino: uint64(st.Ino)}, nil //nolint:unconvert // their types differ by architecture
}
