// usage: server IP PORT

// What node.mjs does, on Go's net/http: non-blocking sockets, edge-triggered epoll.
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strconv"
	"time"
)

func filler(length, seed int) []byte {
	out := make([]byte, length)
	for i := range out {
		out[i] = byte(seed + i*7 + (i>>8)*13 + (i>>16)*31)
	}
	return out
}

func answer(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	number := func(name string, usual int) int {
		if value, err := strconv.Atoi(query.Get(name)); err == nil {
			return value
		}
		return usual
	}
	digest := sha256.New()
	length, _ := io.Copy(digest, r.Body)

	var body bytes.Buffer
	fmt.Fprintf(&body, "%s %s %s\nHost: %s\n", r.Method, r.RequestURI, r.Proto, r.Host)
	writeSorted(&body, "", r.Header)
	writeSorted(&body, "trailer ", r.Trailer)
	fmt.Fprintf(&body, "\n%d %x\n", length, digest.Sum(nil))
	size := number("size", 0)
	body.Write(filler(size, size&255))
	time.Sleep(time.Duration(number("delay", 0)) * time.Millisecond)

	status := number("status", 200)
	framing := query.Get("framing")
	trailers := framing == "chunked" && query.Get("trailers") == "1"
	head := w.Header()
	head.Set("X-Server", "go")
	head.Add("Set-Cookie", "a=1")
	head.Add("Set-Cookie", "b=2")
	head.Set("Content-Type", "application/octet-stream")
	switch framing {
	case "close":
		head.Set("Connection", "close")
		head.Set("Transfer-Encoding", "identity")
	case "chunked":
		if trailers {
			head.Set("Trailer", "X-Sum")
		}
	default:
		if status != 204 {
			head.Set("Content-Length", strconv.Itoa(body.Len()))
		}
	}
	w.WriteHeader(status)
	if r.Method == "HEAD" || status == 204 || status == 304 {
		return
	}
	whole := body.Bytes()
	pieces := number("pieces", 1)
	step := (len(whole) + pieces - 1) / pieces
	for at := 0; at < len(whole); at += step {
		w.Write(whole[at:min(at+step, len(whole))])
		if framing == "chunked" || pieces > 1 {
			w.(http.Flusher).Flush()
		}
		if pieces > 1 {
			time.Sleep(time.Millisecond)
		}
	}
	if trailers {
		head.Set("X-Sum", strconv.Itoa(len(whole)))
	}
}

func writeSorted(out io.Writer, prefix string, headers http.Header) {
	names := make([]string, 0, len(headers))
	for name := range headers {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		for _, value := range headers[name] {
			fmt.Fprintf(out, "%s%s: %s\n", prefix, name, value)
		}
	}
}

func main() {
	fmt.Fprintln(os.Stderr, http.ListenAndServe(os.Args[1]+":"+os.Args[2], http.HandlerFunc(answer)))
	os.Exit(1)
}
