// Checks access tokens by the key set of the service, found through its discovery document.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
)

func main() {
	issuer := os.Getenv("ISSUER")
	provider, err := oidc.NewProvider(context.Background(), issuer)
	if err != nil {
		log.Fatal(err)
	}
	verifier := provider.Verifier(&oidc.Config{ClientID: "latchkey", SupportedSigningAlgs: []string{"ES256"}})

	http.HandleFunc("/whoami", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		verified, err := verifier.Verify(r.Context(), token)
		var expired *oidc.TokenExpiredError
		switch {
		case errors.As(err, &expired):
			refuse(w, "token_expired")
		// The library checks everything but the type.
		case err != nil || typeOf(token) != "at+jwt":
			refuse(w, "token_invalid")
		default:
			json.NewEncoder(w).Encode(map[string]string{"user": verified.Subject})
		}
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}

func refuse(w http.ResponseWriter, code string) {
	w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	w.WriteHeader(http.StatusUnauthorized)
	json.NewEncoder(w).Encode(map[string]string{"code": code})
}

func typeOf(token string) string {
	var header struct{ Typ string }
	text, _ := base64.RawURLEncoding.DecodeString(strings.SplitN(token, ".", 2)[0])
	_ = json.Unmarshal(text, &header)
	return header.Typ
}
