// Command shamir-oracle runs Vault's own secret sharing for the test crates/barrier/tests/shamir_oracle.rs.
//
// It reads one job a line from standard input and answers each with one line:
//
//	split <parts> <threshold> <secret>  ->  the shares
//	combine <share>...                  ->  the secret
//
// Bytes are hex, words are separated by one space. A job that fails is answered with "error <text>".
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/shamir"
)

func main() {
	jobs := bufio.NewScanner(os.Stdin)
	jobs.Buffer(nil, 1<<20)
	answers := bufio.NewWriter(os.Stdout)
	for jobs.Scan() {
		answer, err := run(strings.Fields(jobs.Text()))
		if err != nil {
			answer = "error " + err.Error()
		}
		fmt.Fprintln(answers, answer)
		if err := answers.Flush(); err != nil {
			fmt.Fprintln(os.Stderr, "cannot answer:", err)
			os.Exit(1)
		}
	}
	if err := jobs.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot read a job:", err)
		os.Exit(1)
	}
}

func run(words []string) (string, error) {
	switch {
	case len(words) == 4 && words[0] == "split":
		parts, err := strconv.Atoi(words[1])
		if err != nil {
			return "", err
		}
		threshold, err := strconv.Atoi(words[2])
		if err != nil {
			return "", err
		}
		secret, err := hex.DecodeString(words[3])
		if err != nil {
			return "", err
		}
		shares, err := shamir.Split(secret, parts, threshold)
		if err != nil {
			return "", err
		}
		texts := make([]string, len(shares))
		for i, share := range shares {
			texts[i] = hex.EncodeToString(share)
		}
		return strings.Join(texts, " "), nil
	case len(words) >= 1 && words[0] == "combine":
		shares := make([][]byte, 0, len(words)-1)
		for _, word := range words[1:] {
			share, err := hex.DecodeString(word)
			if err != nil {
				return "", err
			}
			shares = append(shares, share)
		}
		secret, err := shamir.Combine(shares)
		return hex.EncodeToString(secret), err
	}
	return "", fmt.Errorf("no such job: %q", words)
}
