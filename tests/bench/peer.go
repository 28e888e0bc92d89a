// SPDX-License-Identifier: MIT

// Go, measured as weft is: "peer.go figures" prints lines of name and value, "peer.go memory" that of a million goroutines,
// "peer.go echo" serves and prints its port.
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

const (
	nYields   = 2000000
	nSpawns   = 400000
	nMany     = 100000
	nMessages = 1000000
	nMemory   = 1000000
)

func yields() {
	var group sync.WaitGroup
	group.Add(2)
	start := time.Now()
	for task := 0; task < 2; task++ {
		go func() {
			for i := 0; i < nYields/2; i++ {
				runtime.Gosched()
			}
			group.Done()
		}()
	}
	group.Wait()
	report("yield", start, nYields)
}

func spawns() {
	var group sync.WaitGroup
	start := time.Now()
	for i := 0; i < nSpawns; i++ {
		group.Add(1)
		go group.Done()
		group.Wait()
	}
	report("spawn_await", start, nSpawns)
}

// The second round: the first has made the stacks.
func spawnsMany() {
	for round := 0; round < 2; round++ {
		var group sync.WaitGroup
		start := time.Now()
		group.Add(nMany)
		for i := 0; i < nMany; i++ {
			go group.Done()
		}
		group.Wait()
		if round == 1 {
			report("spawn_await_100k", start, nMany)
		}
	}
}

func queue() {
	var group sync.WaitGroup
	channel := make(chan *int, 1)
	group.Add(2)
	start := time.Now()
	go func() {
		for i := 0; i < nMessages; i++ {
			channel <- nil
		}
		group.Done()
	}()
	go func() {
		for i := 0; i < nMessages; i++ {
			<-channel
		}
		group.Done()
	}()
	group.Wait()
	report("queue", start, nMessages)
}

func report(name string, start time.Time, n int) {
	fmt.Printf("%s %.2f\n", name, float64(time.Since(start).Nanoseconds())/float64(n))
}

func memoryBytes() float64 {
	text, _ := os.ReadFile("/proc/self/status")
	total := 0.0
	for _, line := range strings.Split(string(text), "\n") {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f", &kib); n == 1 {
			total += kib * 1024
		} else if n, _ := fmt.Sscanf(line, "VmPTE: %f", &kib); n == 1 {
			total += kib * 1024
		}
	}
	return total
}

func memory() {
	before := memoryBytes()
	for i := 0; i < nMemory; i++ {
		go time.Sleep(time.Hour)
		if i%1024 == 0 {
			runtime.Gosched()
		}
	}
	time.Sleep(time.Second)
	fmt.Printf("task_memory_1m %.2f\n", (memoryBytes()-before)/nMemory)
}

func serve(connection net.Conn) {
	buffer := make([]byte, 2048)
	for {
		n, err := connection.Read(buffer)
		if err != nil {
			connection.Close()
			return
		}
		connection.Write(buffer[:n])
	}
}

func echo() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	for {
		connection, err := listener.Accept()
		if err != nil {
			os.Exit(1)
		}
		go serve(connection)
	}
}

func main() {
	switch os.Args[1] {
	case "figures":
		yields()
		spawns()
		spawnsMany()
		queue()
	case "memory":
		memory()
	case "echo":
		echo()
	}
}
