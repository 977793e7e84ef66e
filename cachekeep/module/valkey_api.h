/* What iam_auth.c uses of the module API of Valkey: declarations of our own, of functions that the engine hands out by
 * name when a module is loaded. Nothing else of the API is known here, and nothing of the engine is compiled in.
 * Source: Valkey documentation, "Modules API reference"; constants as the engine's module.c gives and takes them. */

#ifndef CACHEKEEP_VALKEY_API_H
#define CACHEKEEP_VALKEY_API_H

#include <stddef.h>
#include <stdint.h>

enum { API_OK = 0, API_ERR = 1, API_VERSION = 1 };
/* What an authentication callback returns: it decided (let in or not), or the next one is to be asked. */
enum { AUTH_HANDLED = 0, AUTH_NOT_HANDLED = 1 };
/* Of an entry in the engine's ACL log: a failed authentication. */
enum { ACL_LOG_AUTH = 0 };

typedef struct ValkeyModuleCtx Ctx;
typedef struct ValkeyModuleString Text;
typedef struct ValkeyModuleBlockedClient Blocked;
typedef struct ValkeyModuleInfoCtx Info;

typedef int (*AuthCallback)(Ctx *, Text *user, Text *password, Text **error);
typedef void (*UserChanged)(uint64_t client, void *data);

/* type, name, parameters: F(name) becomes a pointer `api_name`, filled by api_load. */
#define API_FUNCTIONS(F)                                                                                              \
    F(void, SetModuleAttribs, (Ctx *, const char *name, int version, int api_version))                                \
    F(void, RegisterAuthCallback, (Ctx *, AuthCallback))                                                              \
    F(Blocked *, BlockClientOnAuth, (Ctx *, AuthCallback, void (*free_data)(Ctx *, void *)))                          \
    F(int, UnblockClient, (Blocked *, void *data))                                                                    \
    F(void *, GetBlockedClientPrivateData, (Ctx *))                                                                   \
    F(int, AuthenticateClientWithACLUser, (Ctx *, const char *, size_t, UserChanged, void *data, uint64_t *client))   \
    F(int, DeauthenticateAndCloseClient, (Ctx *, uint64_t client))                                                    \
    F(uint64_t, CreateTimer, (Ctx *, long long after_ms, void (*)(Ctx *, void *), void *data))                        \
    F(int, StopTimer, (Ctx *, uint64_t timer, void **data))                                                           \
    F(Ctx *, GetDetachedThreadSafeContext, (Ctx *))                                                                   \
    F(const char *, StringPtrLen, (const Text *, size_t *))                                                           \
    F(Text *, CreateString, (Ctx *, const char *, size_t))                                                            \
    F(void, FreeString, (Ctx *, Text *))                                                                              \
    F(int, StringToLongLong, (const Text *, long long *))                                                             \
    F(int, ACLAddLogEntryByUserName, (Ctx *, Text *user, Text *object, int reason))                                   \
    F(void, Log, (Ctx *, const char *level, const char *format, ...))                                                 \
    F(int, RegisterInfoFunc, (Ctx *, void (*)(Info *, int for_crash_report)))                                         \
    F(int, InfoAddSection, (Info *, const char *name))                                                                \
    F(int, InfoAddFieldULongLong, (Info *, const char *name, unsigned long long value))

#define API_DECLARE(type, name, parameters) static type(*api_##name) parameters;
API_FUNCTIONS(API_DECLARE)
#undef API_DECLARE

/* API_ERR when the engine is too old to have one of them. The way in stands first in the context. */
static int api_load(Ctx *ctx) {
    int (*find)(const char *, void *) = (int (*)(const char *, void *))(((void **)ctx)[0]);
#define API_FIND(type, name, parameters)                                                                              \
    if (find("ValkeyModule_" #name, (void *)&api_##name) != API_OK || api_##name == NULL) return API_ERR;
    API_FUNCTIONS(API_FIND)
#undef API_FIND
    return API_OK;
}

#endif
