package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/grantexd/grantexd/daemon/broker"
	"github.com/grantexd/grantexd/daemon/grant"
	"github.com/grantexd/grantexd/socketapi"
	"github.com/grantexd/grantexd/socketapi/access"
	"github.com/grantexd/grantexd/socketapi/audit"
	"github.com/grantexd/grantexd/systemd"
	"github.com/grantexd/grantexd/upstream"
	"github.com/grantexd/grantexd/upstream/budget"
)

// RunOptions are what a daemon needs besides its [Config]. All of them may be
// left out.
type RunOptions struct {
	// Logger gets the log; nil discards it.
	Logger *slog.Logger
	// Level is changed when a reload changes log.level; nil leaves it alone.
	Level *slog.LevelVar
	// Version is what status and the User-Agent say.
	Version string
	// Reload reads the configuration anew, at each value of Hangup.
	Reload func() (*Config, []Warning, error)
	// Hangup receives when the configuration is to be read anew (SIGHUP).
	Hangup <-chan os.Signal
	// Warnings are those of loading the configuration; they are logged, and
	// shown by status.
	Warnings []Warning
	// Started is called once the daemon answers on its sockets.
	Started func(addresses []string)
}

// daemon is a running daemon.
type daemon struct {
	config    *Config
	options   RunOptions
	log       *slog.Logger
	inherited *systemd.Inherited
	notifier  systemd.Notifier

	budget   *budget.Budget
	client   *upstream.Client
	broker   *broker.Broker
	watcher  *grant.Watcher
	audit    *audit.Log
	api      *socketapi.API
	source   *source
	handover *handover
}

// Run runs the daemon until ctx ends, and then drains: what was asked is
// answered, within socket.grace. It returns nil after a stop that was asked for,
// and an error that says what to do if the daemon can't start or go on.
func Run(ctx context.Context, config *Config, o RunOptions) error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &daemon{config: config, options: o, log: o.Logger}
	for _, w := range o.Warnings {
		d.log.Warn("the configuration should be looked at", "warning", w.Message)
	}
	inherited, err := systemd.Inherit()
	if err != nil {
		return err
	}
	d.inherited = inherited
	defer inherited.Close() //nolint:errcheck // the manager has its own copies
	if err := d.assemble(); err != nil {
		return err
	}
	defer d.audit.Close() //nolint:errcheck // every line was written when it was made
	// Taken first, since a grant that comes purges what is left of another one.
	handed := d.handover.take()
	// The file is read before anybody can ask.
	if err := d.watcher.Load(ctx); err != nil {
		return fmt.Errorf("reading the grant file: %w", err)
	}
	d.handover.restore(d.broker, handed)
	listeners, err := d.listen()
	if err != nil {
		return err
	}
	return d.serve(ctx, listeners)
}

// assemble makes every part; none of them runs yet.
func (d *daemon) assemble() error {
	warnings := []string{}
	for _, w := range d.options.Warnings {
		warnings = append(warnings, w.Message)
	}
	prints, err := d.useStateDir()
	if err != nil {
		d.log.Warn("the state directory can't be used", "dir", d.config.State.Dir, "error", err,
			"consequence", stateDirLost, "advice", stateDirAdvice)
		warnings = append(warnings, fmt.Sprintf("the state directory %s can't be used: %v; until it can, %s: %s",
			d.config.State.Dir, err, stateDirLost, stateDirAdvice))
	}
	if err := d.assembleUpstream(); err != nil {
		return err
	}
	if d.handover, err = newHandover(d.inherited, d.log); err != nil {
		return err
	}
	if err := d.assembleBroker(prints); err != nil {
		return err
	}
	d.source = &source{
		broker: d.broker, watched: d.watcher.Current, budget: d.budget, file: d.config.Grant.File, url: d.client.BaseURL(),
		version: d.options.Version, started: time.Now(), warnings: warnings,
	}
	return d.assembleAPI()
}

func (d *daemon) assembleUpstream() (err error) {
	ledger := d.config.Budget.Ledger
	if ledger == "" {
		ledger = filepath.Join(d.config.State.Dir, "budget.ledger")
	}
	l := d.config.limits()
	d.budget, err = budget.New(budget.Options{
		Path: ledger, Logger: d.log, Limit: l.Limit, Window: l.Window, Margin: l.Margin, Stall: l.Stall,
		Reserve: l.Reserve, MaxBlock: l.MaxBlock,
	})
	if err != nil {
		return err
	}
	d.client, err = upstream.New(upstream.Options{
		BaseURL: d.config.Upstream.URL, CAFile: d.config.Upstream.CAFile, Wrap: d.budget.Transport,
		AttemptTimeout: d.config.Upstream.AttemptTimeout, RetryWaitMin: d.config.Upstream.RetryWaitMin,
		RetryWaitMax: d.config.Upstream.RetryWaitMax, UserAgent: "grantexd/" + d.options.Version,
	})
	if err != nil {
		return fmt.Errorf("upstream: %w", err)
	}
	return nil
}

func (d *daemon) assembleBroker(prints fingerprinter) (err error) {
	d.broker, err = broker.New(broker.Options{
		Upstream: d.client, Fingerprint: prints.Fingerprint, Render: render, Withhold: d.handover.withhold,
		Prefetch: d.config.Cache.Prefetch, Tunables: d.config.tunables(), Logger: d.log,
		Reread: func(ctx context.Context) error {
			_, err := d.watcher.Reread(ctx)
			return err
		},
	})
	if err != nil {
		return err
	}
	g := d.config.Grant
	d.watcher, err = grant.New(grant.Options{
		Path: g.File, Strict: g.Strict, Debounce: g.Debounce, Settle: g.Settle, Poll: g.Poll, FastPoll: g.FastPoll,
		GoneAfter: g.GoneAfter, Logger: d.log, OnChange: d.broker.SetGrant,
	})
	return err
}

func (d *daemon) assembleAPI() (err error) {
	rules, err := access.Compile(d.config.Access, nil)
	if err != nil {
		return err
	}
	d.audit, err = audit.New(audit.Options{
		Path: d.config.Audit.File, Required: d.config.Audit.Required, Interval: d.config.Audit.Interval, Logger: d.log,
	})
	if err != nil {
		return err
	}
	metrics, err := metricsHandler(d.source)
	if err != nil {
		return err
	}
	d.source.audit = d.audit
	s := d.config.Socket
	d.api, err = socketapi.New(socketapi.Options{
		Source: d.source, Logger: d.log, Access: rules, Audit: d.audit, Metrics: metrics,
		Wait: s.Wait, MaxWait: s.MaxWait, MaxBodyBytes: s.MaxBodyBytes, MaxHeaderBytes: s.MaxHeaderBytes,
		ReadTimeout: s.ReadTimeout, WriteTimeout: s.WriteTimeout, IdleTimeout: s.IdleTimeout,
		MaxConns: s.MaxConnections, MaxConnsPerUID: s.MaxConnectionsUID, Grace: s.Grace,
	})
	return err
}

// What it means if the state directory can't be used, and what to do.
const (
	stateDirLost   = "fingerprints change at each start, and exchanges are spread out if the ledger can't be used either"
	stateDirAdvice = "mend that, or set state.dir to a directory in which the daemon's user may write, and restart"
)

// useStateDir makes the state directory, for nobody else, if it is missing, and
// takes the fingerprints' key from it. If it can't be used, one error says why:
// that the key in it can't be used either is no news. The fingerprints work all
// the same.
func (d *daemon) useStateDir() (fingerprinter, error) {
	dir := d.config.State.Dir
	made := os.MkdirAll(dir, 0o700)
	prints, err := newFingerprinter(dir)
	if made != nil {
		err = made
	}
	return prints, err
}

// listen returns the sockets that the service manager passed, or makes the
// configured one, and adds the loopback address if there is to be one.
func (d *daemon) listen() ([]net.Listener, error) {
	var listeners []net.Listener
	for name, inherited := range d.inherited.Listeners {
		for _, l := range inherited {
			if _, ok := l.(*net.UnixListener); !ok {
				// Nobody could tell who is calling there, and no token is asked.
				return nil, fmt.Errorf("the socket unit passed %s, which is no Unix socket: use ListenStream=/path, and --listen-tcp for TCP", l.Addr())
			}
		}
		listeners = append(listeners, inherited...)
		delete(d.inherited.Listeners, name)
	}
	s := d.config.Socket
	if len(listeners) == 0 {
		l, err := socketapi.Listen(socketapi.ListenOptions{
			Path: s.Path, Mode: fs.FileMode(s.Mode), Group: s.Group, Strict: s.Strict, Logger: d.log,
		})
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, l)
	}
	if s.ListenTCP == "" {
		return listeners, nil
	}
	l, err := socketapi.ListenTCP(socketapi.TCPOptions{
		Address: s.ListenTCP, TokenFile: s.Path + ".token", Mode: fs.FileMode(s.Mode), Group: s.Group,
	})
	if err != nil {
		for _, other := range listeners {
			err = errors.Join(err, other.Close())
		}
		return nil, err
	}
	return append(listeners, l), nil
}

// serve runs all parts until ctx ends or one of them fails. The API is drained
// before the parts that it needs are stopped.
func (d *daemon) serve(ctx context.Context, listeners []net.Listener) error {
	parts, stopParts := context.WithCancel(context.WithoutCancel(ctx))
	defer stopParts()
	group, partsCtx := errgroup.WithContext(parts)
	group.Go(func() error { return d.broker.Run(partsCtx) })
	group.Go(func() error { return d.watcher.Run(partsCtx) })
	group.Go(func() error { return d.audit.Run(partsCtx) })
	group.Go(func() error { return d.handover.run(partsCtx, d.broker) })
	group.Go(func() error { return d.reportStatus(partsCtx) })
	group.Go(func() error { return d.reloadOnHangup(partsCtx) })

	// The API ends with the caller's context, or when a part fails.
	apiCtx, stopAPI := context.WithCancel(ctx)
	defer stopAPI()
	context.AfterFunc(partsCtx, stopAPI)
	served := make(chan error, 1)
	go func() { served <- d.api.Serve(apiCtx, listeners...) }()
	d.announce(apiCtx, listeners)
	// Not before the first answer, or the watchdog would find nothing to check.
	group.Go(func() error {
		return systemd.Watchdog{Check: d.selfCheck, Log: d.log}.Run(partsCtx)
	})

	unasked := d.announceStop(ctx)
	err := <-served
	stopParts()
	err = firstError(err, group.Wait())
	if !unasked() && err == nil {
		d.log.Info("grantexd has stopped")
	}
	return err
}

// announceStop logs when ctx ends that the daemon is asked to stop. What it
// returns reports whether it was not asked until now, and ends the watch.
func (d *daemon) announceStop(ctx context.Context) (unasked func() bool) {
	said := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(said)
		d.log.Info("grantexd is stopping: what was asked is still answered", "grace", d.config.Socket.Grace)
	})
	return func() bool {
		if cancel() {
			return true
		}
		<-said // so that the log tells it in the order in which it happened
		return false
	}
}

// announce says that the daemon answers, once a request went through.
func (d *daemon) announce(ctx context.Context, listeners []net.Listener) {
	addresses := make([]string, 0, len(listeners))
	for _, l := range listeners {
		addresses = append(addresses, l.Addr().String())
	}
	if err := d.firstAnswer(ctx); err != nil {
		return // it is stopping already, and says why itself
	}
	d.log.Info("grantexd answers", "sockets", addresses, "upstream", d.client.BaseURL(), "version", d.options.Version)
	d.notify(d.notifier.Ready(d.statusLine()))
	if d.options.Started != nil {
		d.options.Started(addresses)
	}
	context.AfterFunc(ctx, func() { d.notify(d.notifier.Stopping()) })
}

// firstAnswer waits until the API answers: Serve has to get as far as accepting.
func (d *daemon) firstAnswer(ctx context.Context) error {
	for {
		err := d.selfCheck(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Millisecond):
		}
	}
}

// selfCheck asks the broker's loop and the API whether they are alive.
func (d *daemon) selfCheck(ctx context.Context) error {
	if err := d.broker.Heartbeat(ctx); err != nil {
		return fmt.Errorf("the broker's loop does not answer: %w", err)
	}
	return d.api.SelfCheck(ctx)
}
