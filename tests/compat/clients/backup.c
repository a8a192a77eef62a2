/*
 * A backup program in C: a full and an incremental pull backup through libvirt and libnbd, and a
 * test of both that needs nothing but the connection of the backup.
 *
 * Usage: backup URI FOLDER.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libnbd.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#define TEXT 4096
#define PIECE (1 << 20)
#define DIRTY 1
#define RANGES 1024
#define BITMAP "changes"
#define CONTEXT "qemu:dirty-bitmap:" BITMAP

static const char *const FAULT =
    "{\"text\": \"[[faults]]\\n"
    "match = { procedure = 'virDomainBackupBegin' }\\n"
    "effect = { kind = 'error', code = 'OPERATION_FAILED', message = 'the pool is full' }\\n"
    "when = { times = 1 }\\n\"}";

struct copy {
    struct nbd_handle *nbd;
    int image;
    uint64_t copied;
};

struct changes {
    uint64_t known; /* up to here */
    size_t count;
    uint64_t offset[RANGES];
    uint32_t length[RANGES];
};

static char folder[TEXT / 4];

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why ? why : "no reason given");
    exit(EXIT_FAILURE);
}

static void check(int result, const char *what)
{
    if (result < 0)
        fail(what, virGetLastErrorMessage());
}

static void check_nbd(int result, const char *what)
{
    if (result < 0)
        fail(what, nbd_get_error());
}

/* Run a control command through the monitor; the caller frees the answer, which is JSON. */
static char *control(virDomainPtr domain, const char *name, const char *arguments)
{
    char request[TEXT], *answer = NULL;

    snprintf(request, sizeof(request), "{\"execute\": \"x-virtbackupd-%s\", \"arguments\": %s}",
             name, arguments);
    check(virDomainQemuMonitorCommand(domain, request, &answer, 0), name);
    if (!strstr(answer, "\"return\""))
        fail(name, answer);
    return answer;
}

static void told(virDomainPtr domain, const char *name, const char *arguments, const char *expected)
{
    char *answer = control(domain, name, arguments);

    if (!strstr(answer, expected))
        fail(name, answer);
    free(answer);
}

/* Is the copy what the guest sees? The hypervisor knows every byte. */
static void compare(virDomainPtr domain)
{
    char arguments[TEXT];

    snprintf(arguments, sizeof(arguments),
             "{\"disk\": \"vda\", \"path\": \"%s/copy.raw\", \"format\": \"raw\"}", folder);
    told(domain, "compare", arguments, "\"identical\": true");
}

static int begin(virDomainPtr domain, const char *since, const char *name)
{
    char backup[TEXT], checkpoint[TEXT], incremental[TEXT / 4] = "";

    if (since)
        snprintf(incremental, sizeof(incremental), "<incremental>%s</incremental>", since);
    snprintf(backup, sizeof(backup),
             "<domainbackup mode='pull'>%s<server transport='unix' socket='%s/nbd.sock'/>"
             "<disks><disk name='vda'%s/></disks></domainbackup>",
             incremental, folder, since ? " exportbitmap='" BITMAP "'" : "");
    snprintf(checkpoint, sizeof(checkpoint), "<domaincheckpoint><name>%s</name></domaincheckpoint>",
             name);
    return virDomainBackupBegin(domain, backup, checkpoint, 0);
}

static void copy_range(struct copy *copy, uint64_t offset, uint64_t length)
{
    static char buffer[PIECE];

    while (length > 0) {
        size_t size = length < PIECE ? length : PIECE;

        check_nbd(nbd_pread(copy->nbd, buffer, size, offset, 0), "read");
        if (pwrite(copy->image, buffer, size, offset) != (ssize_t)size)
            fail("write", "the copy cannot be written");
        offset += size;
        length -= size;
        copy->copied += size;
    }
}

/* Keep what has changed for later: from within a callback nothing can be read. */
static int note_extents(void *data, const char *context, uint64_t offset, uint32_t *entries,
                        size_t count, int *error)
{
    struct changes *changes = data;

    (void)error;
    if (strcmp(context, CONTEXT) != 0)
        return 0;
    for (size_t i = 0; i + 1 < count; i += 2) {
        if ((entries[i + 1] & DIRTY) && changes->count < RANGES) {
            changes->offset[changes->count] = offset;
            changes->length[changes->count++] = entries[i];
        }
        offset += entries[i];
    }
    changes->known = offset;
    return 0;
}

static void copy_changes(struct copy *copy, uint64_t size)
{
    struct changes changes = {.known = 0};

    while (changes.known < size) {
        uint64_t start = changes.known;
        nbd_extent_callback callback = {.callback = note_extents, .user_data = &changes};

        check_nbd(nbd_block_status(copy->nbd, size - start, start, callback, 0), "block status");
        if (changes.known == start)
            fail("block status", "no answer about " CONTEXT);
    }
    if (changes.count == RANGES)
        fail("block status", "more ranges than this program can hold");
    for (size_t i = 0; i < changes.count; i++)
        copy_range(copy, changes.offset[i], changes.length[i]);
}

/* Copy the whole export, or what its bitmap says. Returns how many bytes were read. */
static uint64_t pull(int incremental)
{
    char uri[TEXT], path[TEXT];
    struct copy copy = {.nbd = nbd_create()};
    int64_t size;

    snprintf(uri, sizeof(uri), "nbd+unix:///vda?socket=%s/nbd.sock", folder);
    snprintf(path, sizeof(path), "%s/copy.raw", folder);
    copy.image = open(path, O_RDWR | O_CREAT, 0600);
    if (!copy.nbd || copy.image < 0)
        fail(path, "cannot be opened");
    if (incremental)
        check_nbd(nbd_add_meta_context(copy.nbd, CONTEXT), "meta context");
    check_nbd(nbd_connect_uri(copy.nbd, uri), uri);
    size = nbd_get_size(copy.nbd);
    if (size < 0)
        fail("size", nbd_get_error());
    if (incremental)
        copy_changes(&copy, size);
    else
        copy_range(&copy, 0, size);
    nbd_shutdown(copy.nbd, 0);
    nbd_close(copy.nbd);
    close(copy.image);
    return copy.copied;
}

int main(int argc, char **argv)
{
    virConnectPtr connection;
    virDomainPtr domain;

    if (argc != 3 || strlen(argv[2]) >= sizeof(folder))
        fail("usage", "backup URI FOLDER");
    strcpy(folder, argv[2]);
    if (!(connection = virConnectOpen(argv[1])) ||
        !(domain = virDomainLookupByName(connection, "test")))
        fail(argv[1], virGetLastErrorMessage());

    told(domain, "guest-write", "{\"disk\": \"vda\", \"offset\": \"1M\", \"length\": \"64k\", "
                                "\"byte\": 171}", "65536");
    check(begin(domain, NULL, "first"), "full backup");
    printf("full: %" PRIu64 " bytes\n", pull(0));
    check(virDomainAbortJob(domain), "end of the full backup");
    compare(domain);

    free(control(domain, "faults-load", FAULT));
    if (begin(domain, "first", "never") == 0 || virGetLastErrorCode() != VIR_ERR_OPERATION_FAILED)
        fail("fault", "it did not reach us");
    printf("refused: %s\n", virGetLastErrorMessage());

    told(domain, "guest-write", "{\"disk\": \"vda\", \"offset\": \"5M\", \"length\": \"128k\", "
                                "\"seed\": 7}", "131072");
    check(begin(domain, "first", "second"), "incremental backup");
    printf("incremental: %" PRIu64 " bytes\n", pull(1));
    check(virDomainAbortJob(domain), "end of the incremental backup");
    compare(domain);
    printf("identical\n");

    virDomainFree(domain);
    virConnectClose(connection);
    return EXIT_SUCCESS;
}
