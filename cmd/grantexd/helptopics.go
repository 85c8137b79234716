package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grantexd/grantexd/daemon"
)

// exitCodesTopic is "grantexd help exit-codes".
func exitCodesTopic() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: exitCodeTable()}
}

// configTopic is "grantexd help config".
func configTopic() *cobra.Command {
	return &cobra.Command{Use: "config", Short: "All that can be configured", Long: configReference()}
}

// configReference describes every key.
func configReference() string {
	var b strings.Builder
	b.WriteString("Flags win over the environment, that over the configuration file (" + daemon.DefaultConfigFile + ",\n" +
		"--config or $" + daemon.ConfigEnv + "), and that over the defaults. In the file each key stands below its group:\n\n" +
		"  grant:\n    file: /etc/grantexd/grant\n  log:\n    level: debug\n\n" +
		"Durations have a unit, as in 30s, 5m or 1h. Keys marked * are taken over by a reload\n" +
		"(SIGHUP, grantexd reload), the others by a restart.\n")
	group := ""
	for _, k := range daemon.Reference() {
		if g, _, _ := strings.Cut(k.Name, "."); g != group {
			group = g
			b.WriteByte('\n')
		}
		mark := " "
		if k.Reload {
			mark = "*"
		}
		fmt.Fprintf(&b, "%s %s (%s)\n      %s\n      --%s, $%s", mark, k.Name, k.Unit, k.Meaning, k.Flag, k.Env)
		if k.Default != "" {
			fmt.Fprintf(&b, "; default: %s", k.Default)
		}
		b.WriteByte('\n')
	}
	b.WriteString("\n* access (a list of rules)\n      who may read what; without the key everybody whom the socket lets in may read everything,\n" +
		"      with it nobody may but those whom a rule allows. All that a rule names must hold:\n\n" +
		"        access:\n          - name: deployers\n            groups: [deploy]\n            services: [\"github*\"]\n\n" +
		"      keys of a rule: name, users, groups, units, principals (tcp), anyone (true), services")
	return b.String()
}
