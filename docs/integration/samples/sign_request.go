// Signs and sends one request to the Cage API with Go's standard library (Go 1.19 and later).
//
//	go run sign_request.go -url http://127.0.0.1:8420 -key-id KEY_ID -key-file key.pem \
//	    -body '{"network": "btc"}' POST /v1/players/player-1/addresses
//
// The signature is RFC 9421 with Ed25519. Nothing of this file is needed in your own program but
// Sign: send exactly the method, URL and body that you signed. A retry is signed anew.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const timeout = 30 * time.Second

// Request is what is signed. Target is path and query as they go over the wire.
type Request struct {
	Method, Authority, Target string
	Body                      []byte
	IdempotencyKey            string // empty: none is sent
}

// Sign returns the headers to send beside Host.
func Sign(request Request, keyID string, key ed25519.PrivateKey) (map[string]string, error) {
	path, query := request.Target, "?"
	if mark := strings.IndexByte(path, '?'); mark >= 0 {
		path, query = path[:mark], path[mark:]
	}
	covered := [][2]string{
		{"@method", request.Method},
		{"@authority", strings.ToLower(request.Authority)},
		{"@path", path},
		{"@query", query},
	}
	headers := map[string]string{}
	if request.IdempotencyKey != "" {
		headers["Idempotency-Key"] = request.IdempotencyKey
		covered = append(covered, [2]string{"idempotency-key", request.IdempotencyKey})
	}
	if len(request.Body) > 0 {
		sum := sha256.Sum256(request.Body)
		digest := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":" // RFC 9530
		headers["Content-Type"] = "application/json"
		headers["Content-Digest"] = digest
		covered = append(covered, [2]string{"content-digest", digest})
	}
	nonce, err := random()
	if err != nil {
		return nil, err
	}
	var names, lines []string
	for _, item := range covered {
		names = append(names, fmt.Sprintf("%q", item[0]))
		lines = append(lines, fmt.Sprintf("%q: %s", item[0], item[1]))
	}
	parameters := fmt.Sprintf(`(%s);created=%d;nonce="%s";keyid="%s";alg="ed25519"`,
		strings.Join(names, " "), time.Now().Unix(), nonce, keyID)
	lines = append(lines, `"@signature-params": `+parameters)
	signature := ed25519.Sign(key, []byte(strings.Join(lines, "\n")))
	headers["Signature-Input"] = "sig1=" + parameters
	headers["Signature"] = "sig1=:" + base64.StdEncoding.EncodeToString(signature) + ":"
	return headers, nil
}

func random() (string, error) {
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	return hex.EncodeToString(raw), nil
}

func readKey(file string) (ed25519.PrivateKey, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, errors.New("the key file is not PEM")
	}
	found, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, is := found.(ed25519.PrivateKey)
	if !is {
		return nil, errors.New("the key file holds no Ed25519 key")
	}
	return key, nil
}

func run() (int, error) {
	base := flag.String("url", "", "base URL of the API")
	keyID := flag.String("key-id", "", "id of the key")
	keyFile := flag.String("key-file", "", "Ed25519 key, PEM (PKCS 8)")
	body := flag.String("body", "", "JSON")
	idempotencyKey := flag.String("idempotency-key", "", "else a new one for POST")
	flag.Parse()
	if *base == "" || *keyID == "" || *keyFile == "" || flag.NArg() != 2 {
		return 2, errors.New("usage: -url URL -key-id ID -key-file PEM [-body JSON] METHOD TARGET")
	}
	key, err := readKey(*keyFile)
	if err != nil {
		return 2, err
	}
	parts, err := url.Parse(*base)
	if err != nil {
		return 2, err
	}
	asked := Request{
		Method:         strings.ToUpper(flag.Arg(0)),
		Authority:      parts.Host,
		Target:         flag.Arg(1),
		Body:           []byte(*body),
		IdempotencyKey: *idempotencyKey,
	}
	if asked.IdempotencyKey == "" && asked.Method == http.MethodPost {
		if asked.IdempotencyKey, err = random(); err != nil {
			return 1, err
		}
	}
	headers, err := Sign(asked, *keyID, key)
	if err != nil {
		return 1, err
	}
	request, err := http.NewRequest(
		asked.Method, strings.TrimRight(*base, "/")+asked.Target, bytes.NewReader(asked.Body))
	if err != nil {
		return 2, err
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	client := http.Client{Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	answer, err := client.Do(request)
	if err != nil {
		return 1, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return 1, err
	}
	fmt.Println(string(content))
	if answer.StatusCode >= 400 {
		return 1, nil
	}
	return 0, nil
}

func main() {
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}
