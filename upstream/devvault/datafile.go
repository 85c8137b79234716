package devvault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// What can be wrong with a data file. In none of these cases was anything
// written to it.
var (
	// ErrWrongKey means that the data file was encrypted with another key.
	ErrWrongKey = errors.New("the key does not fit the data file")
	// ErrDamaged means that the data file does not hold what was written.
	ErrDamaged = errors.New("the data file is damaged")
	// ErrInUse means that another process has the data file open.
	ErrInUse = errors.New("the data file is in use by another process")
)

const (
	// lockTimeout is how long another process may take to let go of the
	// file: long enough for the one that we replace to stop.
	lockTimeout = 2 * time.Second
	// filePageBytes is the page size of the file, whatever the machine's: the
	// file can move, and its first two pages can be found.
	filePageBytes = 4096
	// fileFormat is the version of the format.
	fileFormat = "1"
	// manifestName is what the manifest is sealed as; no record has this name.
	manifestName = "manifest"
)

// The buckets of the file, and the names in the first.
var (
	metaBucket   = []byte("meta")
	recordBucket = []byte("records")
	formatKey    = []byte("format")
	keyIDKey     = []byte("key-id")
	manifestKey  = []byte("manifest")
)

// manifest says how many records there are. It is sealed, and written with each
// change of the records, so that records which damage made unreachable are
// missed.
type manifest struct {
	Records int `json:"records"`
}

// dataFile is a journal in an encrypted file. Its caller calls one method at a
// time.
type dataFile struct {
	db       *bolt.DB
	place    string // of the file and its key, for errors
	sealer   sealer
	manifest manifest
}

// openDataFile opens the data file of o, or makes it.
func openDataFile(o Options) (*dataFile, error) {
	place := o.keyPlace()
	info, err := os.Stat(o.DataFile)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !missing:
		return nil, fmt.Errorf("data file: %w", err)
	case !missing && !info.Mode().IsRegular():
		return nil, fmt.Errorf("data file %s is not a regular file", o.DataFile)
	case !missing && info.Size() == 0:
		return nil, fmt.Errorf("data file %s: %w: it is empty; remove it to start anew", o.DataFile, ErrDamaged)
	case !missing && info.Mode().Perm()&otherUsers != 0:
		o.Logger.Warn("others can read the data file", "path", o.DataFile, "mode", info.Mode().Perm().String())
	}
	key, err := place.read()
	if missing && place.creatable && errors.Is(err, fs.ErrNotExist) {
		if err := place.create(); err != nil {
			return nil, err
		}
		key, err = place.read()
	}
	if !missing && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("data file %s can't be read without its key: %w", o.DataFile, err)
	}
	if err != nil {
		return nil, err
	}
	s := newSealer(key)
	if missing {
		if err := createDataFile(o.DataFile, s); err != nil {
			return nil, fmt.Errorf("making the data file: %w", err)
		}
	}
	f := &dataFile{sealer: s, place: fmt.Sprintf("data file %s (key %s)", o.DataFile, place.path)}
	if f.db, err = openChecked(o.DataFile); err != nil {
		return nil, fmt.Errorf("data file %s: %w", o.DataFile, err)
	}
	return f, nil
}

// openBolt opens the bbolt file path. The list of free pages is not written but
// made anew each time: a damaged one would have later writes destroy good records.
func openBolt(path string) (*bolt.DB, error) {
	return bolt.Open(path, 0o600, &bolt.Options{
		Timeout: lockTimeout, PageSize: filePageBytes, NoFreelistSync: true, NoStatistics: true,
	})
}

// createDataFile makes an empty data file. One that another process has made
// meanwhile is as good.
func createDataFile(path string, s sealer) error {
	err := publish(path, func(f *os.File) error {
		db, err := openBolt(f.Name())
		if err != nil {
			return err
		}
		err = db.Update(func(tx *bolt.Tx) error {
			if _, err := tx.CreateBucket(recordBucket); err != nil {
				return err
			}
			meta, err := tx.CreateBucket(metaBucket)
			if err != nil {
				return err
			}
			return errors.Join(
				meta.Put(formatKey, []byte(fileFormat)),
				meta.Put(keyIDKey, s.id),
				putSealed(meta, manifestKey, manifestName, s, compactJSON(manifest{})))
		})
		return errors.Join(err, db.Close())
	})
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// openChecked opens the data file for writing, after its structure was found
// good. Nothing is written before its records were too.
func openChecked(path string) (*bolt.DB, error) {
	if err := checkFile(path); err != nil {
		return nil, err
	}
	db, err := openBolt(path)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, ErrInUse
	}
	return db, err
}

// load implements journal. It reads, decrypts and counts every record.
func (f *dataFile) load(record func(kind recordKind, id string, value []byte) error) error {
	err := f.db.View(func(tx *bolt.Tx) error {
		meta, all := tx.Bucket(metaBucket), tx.Bucket(recordBucket)
		if meta == nil || all == nil {
			return damaged("it is not a data file of devvault, or parts are missing")
		}
		if err := f.readManifest(meta); err != nil {
			return err
		}
		return f.readRecords(all, record)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", f.place, err)
	}
	return nil
}

func (f *dataFile) readManifest(meta *bolt.Bucket) error {
	if format := meta.Get(formatKey); string(format) != fileFormat {
		return fmt.Errorf("its format is %q, and this version reads only %q", format, fileFormat)
	}
	plain, err := f.sealer.open(manifestName, meta.Get(manifestKey))
	sameKey := bytes.Equal(meta.Get(keyIDKey), f.sealer.id)
	switch {
	case err != nil && !sameKey:
		return ErrWrongKey
	case err != nil || !sameKey:
		return damaged("its manifest does not fit")
	}
	if err := json.Unmarshal(plain, &f.manifest); err != nil {
		return damaged("reading its manifest: %w", err)
	}
	return nil
}

func (f *dataFile) readRecords(all *bolt.Bucket, record func(kind recordKind, id string, value []byte) error) error {
	var last []byte
	n := 0
	cursor := all.Cursor()
	for name, sealed := cursor.First(); name != nil; name, sealed = cursor.Next() {
		if n > 0 && bytes.Compare(last, name) >= 0 {
			return damaged("its records are out of order")
		}
		last = bytes.Clone(name)
		n++
		plain, err := f.sealer.open(string(name), sealed)
		if err != nil {
			return damaged("%w", err)
		}
		kind, id, _ := strings.Cut(string(name), "/")
		if err := record(recordKind(kind), id, plain); err != nil {
			return err
		}
	}
	if n != f.manifest.Records {
		return damaged("%d records can be read, %d were written", n, f.manifest.Records)
	}
	return nil
}

func recordName(kind recordKind, id string) string { return string(kind) + "/" + id }

// save implements journal.
func (f *dataFile) save(kind recordKind, id string, value []byte) error {
	name := recordName(kind, id)
	return f.update("saving", func(all *bolt.Bucket) (change int, err error) {
		if all.Get([]byte(name)) == nil {
			change = 1
		}
		return change, putSealed(all, []byte(name), name, f.sealer, value)
	})
}

// remove implements journal.
func (f *dataFile) remove(kind recordKind, id string) error {
	name := []byte(recordName(kind, id))
	return f.update("deleting", func(all *bolt.Bucket) (change int, err error) {
		if all.Get(name) != nil {
			change = -1
		}
		return change, all.Delete(name)
	})
}

// update changes records and the manifest in one transaction, which is on the
// disk when update returns.
func (f *dataFile) update(doing string, work func(*bolt.Bucket) (change int, err error)) error {
	next := f.manifest
	err := f.db.Update(func(tx *bolt.Tx) error {
		change, err := work(tx.Bucket(recordBucket))
		if err != nil {
			return err
		}
		next.Records += change
		return putSealed(tx.Bucket(metaBucket), manifestKey, manifestName, f.sealer, compactJSON(next))
	})
	if err != nil {
		return fmt.Errorf("%s a record in the data file: %w", doing, err)
	}
	f.manifest = next
	return nil
}

// putSealed seals value as the next version of what is there.
func putSealed(b *bolt.Bucket, key []byte, name string, s sealer, value []byte) error {
	return b.Put(key, s.seal(name, versionOf(b.Get(key))+1, value))
}

// close implements journal.
func (f *dataFile) close() error {
	if err := f.db.Close(); err != nil {
		return fmt.Errorf("closing the data file: %w", err)
	}
	return nil
}
