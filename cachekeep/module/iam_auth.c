/* Lets users into a Valkey by IAM token: asks Cachekeep's agent, on a Unix socket, whether a token is good.
 *
 *     loadmodule iam_auth.so SOCKET NODE [LIFETIME_MS]
 *
 * Only what looks like a token is looked at; every other password goes to the engine's own check. A token is either let
 * in by the agent, or refused: also when the agent is down, slow or talks nonsense. The connection waits meanwhile, all
 * others are served. A user is one of the engine's own ACL, which says what it may do.
 *
 * A connection that a token let in is closed LIFETIME_MS after it last authenticated (AWS: 12 hours), by a timer in the
 * engine, so that no agent is needed for it. The engine tells us when such a connection ends or becomes another user.
 *
 * To the agent: 4 bytes length of what follows; 2 bytes length, NODE; 2 bytes length, user; token. All big-endian.
 * From it: one byte, Y (let in), N (refuse), P (not a user of tokens: ask the engine's own check).
 * Tokens are never logged, and are wiped after use. */

#define _GNU_SOURCE
#include "valkey_api.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define MODULE_NAME "cachekeep_iam"
#define MOST_TOKEN 8192
#define MOST_NAME 512
#define MOST_WAITING 128
#define AGENT_TIMEOUT_S 2
#define USUAL_LIFETIME_MS (12LL * 3600 * 1000)

typedef struct {
    Blocked *blocked;
    char verdict; /* Y, N, P; or 0 when the agent gave none */
    size_t length;
    unsigned char frame[];
} Attempt;

/* A connection that a token let in. */
typedef struct {
    uint64_t client;
    uint64_t timer;
} Guest;

static struct sockaddr_un agent;
static char node[MOST_NAME];
static size_t node_length;
static long long lifetime_ms = USUAL_LIFETIME_MS;
static Ctx *own_ctx;
static atomic_int waiting;
static unsigned long long let_in, refused, unanswered, throttled, expired;

static int is_token(const char *text, size_t length);
static void *ask_agent(void *data);
static int on_verdict(Ctx *ctx, Text *user, Text *password, Text **error);
static void free_attempt(Ctx *ctx, void *data);
static int admit(Ctx *ctx, Text *user);
static int deny(Ctx *ctx, Text **error, const char *why);
static int deny_wrong(Ctx *ctx, Text *user, Text **error);

/* --- on the engine's main thread --- */

static int on_auth(Ctx *ctx, Text *user, Text *password, Text **error) {
    size_t user_length, token_length;
    const char *user_name = api_StringPtrLen(user, &user_length);
    const char *token = api_StringPtrLen(password, &token_length);
    if (!is_token(token, token_length)) return AUTH_NOT_HANDLED;
    if (token_length > MOST_TOKEN || user_length > MOST_NAME) {
        return deny_wrong(ctx, user, error);
    }
    if (atomic_fetch_add(&waiting, 1) >= MOST_WAITING) {
        atomic_fetch_sub(&waiting, 1);
        throttled++;
        return deny(ctx, error, "-ERR too many IAM authentications at once, try again");
    }
    size_t length = 2 + node_length + 2 + user_length + token_length;
    Attempt *attempt = calloc(1, sizeof(Attempt) + 4 + length);
    if (attempt == NULL) {
        atomic_fetch_sub(&waiting, 1);
        return deny(ctx, error, "-ERR out of memory");
    }
    unsigned char *at = attempt->frame;
    for (int shift = 24; shift >= 0; shift -= 8) *at++ = (unsigned char)(length >> shift);
    *at++ = (unsigned char)(node_length >> 8), *at++ = (unsigned char)node_length;
    memcpy(at, node, node_length), at += node_length;
    *at++ = (unsigned char)(user_length >> 8), *at++ = (unsigned char)user_length;
    memcpy(at, user_name, user_length), at += user_length;
    memcpy(at, token, token_length);
    attempt->length = 4 + length;
    attempt->blocked = api_BlockClientOnAuth(ctx, on_verdict, free_attempt);

    pthread_t thread;
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    /* Without a thread there is no verdict, which refuses. */
    if (pthread_create(&thread, &detached, ask_agent, attempt) != 0) api_UnblockClient(attempt->blocked, attempt);
    pthread_attr_destroy(&detached);
    return AUTH_HANDLED;
}

static int on_verdict(Ctx *ctx, Text *user, Text *password, Text **error) {
    (void)password;
    Attempt *attempt = api_GetBlockedClientPrivateData(ctx);
    switch (attempt->verdict) {
    case 'P': return AUTH_NOT_HANDLED;
    case 'Y':
        if (admit(ctx, user) == API_OK) {
            let_in++;
            return AUTH_HANDLED;
        }
        /* The agent knows a user that this engine does not have, or has switched off. */
        /* fall through */
    case 'N': return deny_wrong(ctx, user, error);
    default: unanswered++; return deny(ctx, error, "-ERR IAM authentication is not available now, try again");
    }
}

static void on_end_of_lifetime(Ctx *ctx, void *data) {
    Guest *guest = data;
    guest->timer = 0;
    expired++;
    /* on_user_changed follows, and frees the guest. */
    api_DeauthenticateAndCloseClient(ctx, guest->client);
}

/* The connection ended, or authenticated again. Called once for each guest. */
static void on_user_changed(uint64_t client, void *data) {
    (void)client;
    Guest *guest = data;
    if (guest->timer != 0) api_StopTimer(own_ctx, guest->timer, NULL);
    free(guest);
}

static int admit(Ctx *ctx, Text *user) {
    size_t length;
    const char *name = api_StringPtrLen(user, &length);
    Guest *guest = calloc(1, sizeof(Guest));
    if (guest == NULL) return API_ERR;
    if (api_AuthenticateClientWithACLUser(ctx, name, length, on_user_changed, guest, &guest->client) != API_OK) {
        free(guest);
        return API_ERR;
    }
    guest->timer = api_CreateTimer(own_ctx, lifetime_ms, on_end_of_lifetime, guest);
    return API_OK;
}

/* As the engine's own check does: its answer, its ACL log, and its count of failed authentications. */
static int deny_wrong(Ctx *ctx, Text *user, Text **error) {
    Text *object = api_CreateString(ctx, "AUTH", 4);
    api_ACLAddLogEntryByUserName(ctx, user, object, ACL_LOG_AUTH);
    api_FreeString(ctx, object);
    refused++;
    return deny(ctx, error, "-WRONGPASS invalid username-password pair or user is disabled.");
}

/* why: with a dash and its code, as it stands on the wire; else the engine puts ERR before it. */
static int deny(Ctx *ctx, Text **error, const char *why) {
    *error = api_CreateString(ctx, why, strlen(why));
    return AUTH_HANDLED;
}

/* Every presigned request has it, and no password that the API takes does. */
static int is_token(const char *text, size_t length) {
    static const char mark[] = "X-Amz-Signature=";
    return memmem(text, length, mark, sizeof(mark) - 1) != NULL;
}

static void wipe(void *data, size_t length) {
    volatile unsigned char *at = data;
    while (length--) *at++ = 0;
}

static void free_attempt(Ctx *ctx, void *data) {
    (void)ctx;
    Attempt *attempt = data;
    wipe(attempt->frame, attempt->length);
    free(attempt);
    atomic_fetch_sub(&waiting, 1);
}

/* --- on a thread of its own, which touches nothing of the engine --- */

static int send_all(int link, const unsigned char *data, size_t length) {
    while (length > 0) {
        ssize_t sent = send(link, data, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return -1;
        data += sent, length -= (size_t)sent;
    }
    return 0;
}

static void *ask_agent(void *data) {
    Attempt *attempt = data;
    /* Signals are the engine's. */
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    int link = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (link >= 0) {
        struct timeval limit = {AGENT_TIMEOUT_S, 0};
        setsockopt(link, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        setsockopt(link, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        char answer = 0;
        if (connect(link, (struct sockaddr *)&agent, sizeof(agent)) == 0 &&
            send_all(link, attempt->frame, attempt->length) == 0) {
            ssize_t got;
            do got = recv(link, &answer, 1, 0);
            while (got < 0 && errno == EINTR);
            if (got == 1) attempt->verdict = answer;
        }
        close(link);
    }
    wipe(attempt->frame, attempt->length);
    api_UnblockClient(attempt->blocked, attempt);
    return NULL;
}

/* --- loading --- */

static void tell(Info *info, int for_crash_report) {
    if (for_crash_report) return;
    api_InfoAddSection(info, "iam");
    api_InfoAddFieldULongLong(info, "let_in", let_in);
    api_InfoAddFieldULongLong(info, "refused", refused);
    api_InfoAddFieldULongLong(info, "unanswered", unanswered);
    api_InfoAddFieldULongLong(info, "throttled", throttled);
    api_InfoAddFieldULongLong(info, "expired", expired);
}

int ValkeyModule_OnLoad(Ctx *ctx, Text **argv, int argc) {
    if (api_load(ctx) != API_OK) return API_ERR;
    api_SetModuleAttribs(ctx, MODULE_NAME, 1, API_VERSION);
    if (argc < 2 || argc > 3) {
        api_Log(ctx, "warning", "usage: loadmodule iam_auth.so SOCKET NODE [LIFETIME_MS]");
        return API_ERR;
    }
    size_t path_length;
    const char *path = api_StringPtrLen(argv[0], &path_length);
    const char *name = api_StringPtrLen(argv[1], &node_length);
    if (path_length >= sizeof(agent.sun_path) || node_length >= MOST_NAME) {
        api_Log(ctx, "warning", "the path of the socket or the name of the node is too long");
        return API_ERR;
    }
    if (argc == 3 && (api_StringToLongLong(argv[2], &lifetime_ms) != API_OK || lifetime_ms <= 0)) return API_ERR;
    agent.sun_family = AF_UNIX;
    memcpy(agent.sun_path, path, path_length);
    memcpy(node, name, node_length);
    own_ctx = api_GetDetachedThreadSafeContext(ctx);
    api_RegisterInfoFunc(ctx, tell);
    api_RegisterAuthCallback(ctx, on_auth);
    return API_OK;
}

/* Threads and timers of ours are on their way: it stays. */
int ValkeyModule_OnUnload(Ctx *ctx) {
    (void)ctx;
    return API_ERR;
}
