// A backup program in Go: a full backup over NBD, an incremental one into a file, and a test of both.
//
// Usage: backup SOCKET FOLDER. Everything but the copying goes through one libvirt connection.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

const patience = 30 * time.Second

const fault = `
[[faults]]
match = { procedure = "virDomainBackupBegin", domain = "test" }
effect = { kind = "error", code = "OPERATION_FAILED", message = "no room for the scratch file" }
when = { times = 1 }
`

type arguments map[string]any

type client struct {
	server *libvirt.Libvirt
	domain libvirt.Domain
	folder string
}

func main() {
	log.SetFlags(0)
	server := libvirt.NewWithDialer(dialers.NewLocal(dialers.WithSocket(os.Args[1])))
	check(server.ConnectToURI("test:///default"))
	domain, err := server.DomainLookupByName("test")
	check(err)
	c := &client{server, domain, os.Args[2]}
	c.full()
	c.refused()
	c.incremental()
	check(server.Disconnect())
}

// full takes a pull backup with a checkpoint and asks whether the copy is what the guest wrote.
func (c *client) full() {
	c.control("guest-write", arguments{"disk": "vda", "offset": "1M", "length": "64k", "byte": 171}, nil)
	nbd := c.path("nbd.sock")
	check(c.begin(fmt.Sprintf(`<domainbackup mode='pull'>
	  <server transport='unix' socket='%s'/>
	</domainbackup>`, nbd), "first"))
	tool("nbdcopy", "nbd+unix:///vda?socket="+nbd, c.path("full.raw"))
	check(c.server.DomainAbortJob(c.domain))
	c.compare("full.raw", "raw")
}

// refused lets the next backup fail, as a full disk would make it.
func (c *client) refused() {
	c.control("faults-load", arguments{"text": fault}, nil)
	err := c.begin("<domainbackup/>", "never")
	var refusal libvirt.Error
	if !errors.As(err, &refusal) || refusal.Code != uint32(libvirt.ErrOperationFailed) {
		log.Fatalf("the fault did not reach us: %v", err)
	}
	fmt.Println("refused:", refusal.Message)
}

// incremental pushes what has changed since into a file over the full copy.
func (c *client) incremental() {
	c.control("guest-write", arguments{"disk": "vda", "offset": "5M", "length": "128k", "seed": 7}, nil)
	check(c.begin(fmt.Sprintf(`<domainbackup>
	  <incremental>first</incremental>
	  <disks><disk name='vda' type='file'><driver type='qcow2'/><target file='%s'/></disk></disks>
	</domainbackup>`, c.path("changes.qcow2")), "second"))
	c.wait()
	tool("qemu-img", "rebase", "-u", "-b", c.path("full.raw"), "-F", "raw", c.path("changes.qcow2"))
	c.compare("changes.qcow2", "qcow2")
}

func (c *client) begin(backup, checkpoint string) error {
	document := fmt.Sprintf("<domaincheckpoint><name>%s</name></domaincheckpoint>", checkpoint)
	return c.server.DomainBackupBegin(c.domain, backup, libvirt.OptString{document}, 0)
}

// wait returns when no backup runs any more.
func (c *client) wait() {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		_, err := c.server.DomainBackupGetXMLDesc(c.domain, 0)
		var refusal libvirt.Error
		if errors.As(err, &refusal) && refusal.Code == uint32(libvirt.ErrNoDomainBackup) {
			return
		}
		check(err)
	}
	log.Fatal("the backup does not end")
}

// compare asks the hypervisor, which knows every byte, whether a copy is right.
func (c *client) compare(name, format string) {
	var found struct {
		Identical bool
		Bytes     int
	}
	c.control("compare", arguments{"disk": "vda", "path": c.path(name), "format": format}, &found)
	if !found.Identical {
		log.Fatalf("%s: %d bytes differ", name, found.Bytes)
	}
	fmt.Println(name, "is identical")
}

// control runs a control command through the monitor, and decodes what it returns.
func (c *client) control(name string, given arguments, result any) {
	request, err := json.Marshal(map[string]any{"execute": "x-virtbackupd-" + name, "arguments": given})
	check(err)
	answer, err := c.server.QEMUDomainMonitorCommand(c.domain, string(request), 0)
	check(err)
	var decoded struct {
		Return json.RawMessage
		Error  *struct{ Desc string }
	}
	check(json.Unmarshal([]byte(answer), &decoded))
	if decoded.Error != nil {
		log.Fatalf("%s: %s", name, decoded.Error.Desc)
	}
	if result != nil {
		check(json.Unmarshal(decoded.Return, result))
	}
}

func (c *client) path(name string) string {
	return filepath.Join(c.folder, name)
}

func tool(name string, given ...string) {
	if told, err := exec.Command(name, given...).CombinedOutput(); err != nil {
		log.Fatalf("%s: %v\n%s", name, err, told)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
