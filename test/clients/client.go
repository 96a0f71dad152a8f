// Go's net/http: edge-triggered epoll, buffered writes. Its headers have no order: they are printed sorted. See protocol.ts.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strings"
	"time"
)

type body struct {
	Framing string
	Size    int
	Seed    int
	Splits  []int
	Pause   int
}

type spec struct {
	Id      int
	Method  string
	Target  string
	Headers [][2]string
	Body    *body
}

type connection struct {
	Ip       string
	Port     int
	Requests []spec
}

type answer struct {
	Id       int         `json:"id"`
	Status   int         `json:"status,omitempty"`
	Reason   string      `json:"reason"`
	Headers  [][2]string `json:"headers,omitempty"`
	Trailers [][2]string `json:"trailers"`
	Length   int64       `json:"length"`
	Sha256   string      `json:"sha256,omitempty"`
	Error    string      `json:"error,omitempty"`
}

func filler(length, seed int) []byte {
	out := make([]byte, length)
	for i := range out {
		out[i] = byte(seed + i*7 + (i>>8)*13 + (i>>16)*31)
	}
	return out
}

func sorted(headers http.Header) [][2]string {
	pairs := [][2]string{}
	for name, values := range headers {
		for _, value := range values {
			pairs = append(pairs, [2]string{name, value})
		}
	}
	sort.SliceStable(pairs, func(a, b int) bool { return pairs[a][0] < pairs[b][0] })
	return pairs
}

func write(to *io.PipeWriter, b *body) {
	data := filler(b.Size, b.Seed)
	for _, size := range b.Splits {
		size = min(size, len(data))
		to.Write(data[:size])
		data = data[size:]
		time.Sleep(time.Duration(b.Pause) * time.Millisecond)
	}
	to.Write(data)
	to.Close()
}

func send(client *http.Client, c connection, s spec) answer {
	var payload io.Reader
	if s.Body != nil {
		reader, writer := io.Pipe()
		go write(writer, s.Body)
		payload = reader
	}
	request, err := http.NewRequest(s.Method, fmt.Sprintf("http://%s:%d%s", c.Ip, c.Port, s.Target), payload)
	if err != nil {
		return answer{Id: s.Id, Error: err.Error()}
	}
	if s.Body != nil {
		request.ContentLength = -1
		if s.Body.Framing == "length" {
			request.ContentLength = int64(s.Body.Size)
			if s.Body.Size == 0 {
				request.Body = http.NoBody
			}
		}
	}
	for _, header := range s.Headers {
		if header[0] == "Host" {
			request.Host = header[1]
		} else {
			request.Header.Add(header[0], header[1])
		}
	}
	response, err := client.Do(request)
	if err != nil {
		// Local ports and the like differ from run to run.
		words := strings.Split(err.Error(), ": ")
		return answer{Id: s.Id, Error: words[len(words)-1]}
	}
	defer response.Body.Close()
	digest := sha256.New()
	length, err := io.Copy(digest, response.Body)
	if err != nil {
		return answer{Id: s.Id, Error: err.Error()}
	}
	reason := strings.TrimPrefix(response.Status, fmt.Sprintf("%d ", response.StatusCode))
	return answer{
		Id: s.Id, Status: response.StatusCode, Reason: reason, Headers: sorted(response.Header),
		Trailers: sorted(response.Trailer), Length: length, Sha256: fmt.Sprintf("%x", digest.Sum(nil)),
	}
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var c connection
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		transport := &http.Transport{DisableCompression: true, MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1}
		client := &http.Client{
			Transport:     transport,
			Timeout:       20 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		for _, s := range c.Requests {
			out.Encode(send(client, c, s))
		}
		transport.CloseIdleConnections()
	}
}
