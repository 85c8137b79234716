package devvault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"time"
)

// Admin returns the admin API, which the package's documentation describes. It
// belongs on a port of its own that only this machine can reach: who can reach
// it can make grants for every credential in the vault. It refuses requests of
// browsers, and those of other machines.
func (s *Server) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /grants", s.adminMint)
	mux.HandleFunc("GET /grants", s.adminGrants)
	mux.HandleFunc("POST /grants/{id}/refresh", s.adminRefresh)
	mux.HandleFunc("DELETE /grants/{id}", s.adminRevoke)
	mux.HandleFunc("POST /credentials", s.adminStore)
	mux.HandleFunc("POST /faults", s.adminAddFault)
	mux.HandleFunc("GET /faults", s.adminFaults)
	mux.HandleFunc("DELETE /faults", s.adminClearFaults)
	mux.HandleFunc("DELETE /faults/{id}", s.adminRemoveFault)
	mux.HandleFunc("GET /clock", s.adminClock)
	mux.HandleFunc("PUT /clock", s.adminSetClock)
	mux.HandleFunc("GET /exchanges", s.adminExchanges)
	mux.HandleFunc("DELETE /exchanges", s.adminResetExchanges)
	mux.HandleFunc("POST /reset", s.adminReset)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		adminError(w, http.StatusNotFound, "the admin API has no call "+r.Method+" "+r.URL.Path)
	})
	return s.guardAdmin(mux)
}

// duration is a [time.Duration] in JSON: "1m30s".
type duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as \"1m30s\"", text)
	}
	*d = duration(parsed)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// faultJSON is a [Fault] in JSON.
type faultJSON struct {
	ID         int       `json:"id,omitempty"`
	Kind       FaultKind `json:"kind"`
	On         string    `json:"on,omitempty"`
	Service    string    `json:"service,omitempty"`
	Times      int       `json:"times,omitempty"`
	Share      float64   `json:"share,omitempty"`
	Delay      duration  `json:"delay,omitzero"`
	CountLate  bool      `json:"countLate,omitempty"`
	Status     int       `json:"status,omitempty"`
	Body       string    `json:"body,omitempty"`
	As         string    `json:"as,omitempty"`
	RetryAfter duration  `json:"retryAfter,omitzero"`
	Size       int       `json:"size,omitempty"`
	Applied    int       `json:"applied"`
}

func (f faultJSON) fault() Fault {
	return Fault{
		Kind: f.Kind, On: f.On, Service: f.Service, Times: f.Times, Share: f.Share,
		Delay: time.Duration(f.Delay), CountLate: f.CountLate, Status: f.Status, Body: f.Body,
		As: f.As, RetryAfter: time.Duration(f.RetryAfter), Size: f.Size,
	}
}

func toFaultJSON(a ActiveFault) faultJSON {
	return faultJSON{
		ID: a.ID, Kind: a.Kind, On: a.On, Service: a.Service, Times: a.Times, Share: a.Share,
		Delay: duration(a.Delay), CountLate: a.CountLate, Status: a.Status, Body: a.Body,
		As: a.As, RetryAfter: duration(a.RetryAfter), Size: a.Size, Applied: a.Applied,
	}
}

// mintJSON are [MintParams] in JSON.
type mintJSON struct {
	Scopes      []string `json:"scopes"`
	Life        duration `json:"life"`
	PrincipalID string   `json:"principalId"`
	DeveloperID string   `json:"developerId"`
	AgentID     string   `json:"agentId"`
	GrantID     string   `json:"grantId"`
}

func (s *Server) adminMint(w http.ResponseWriter, r *http.Request) {
	var in mintJSON
	if !readAdmin(w, r, &in) {
		return
	}
	if _, taken := s.records.grant(in.GrantID); taken {
		adminError(w, http.StatusConflict, "there is a grant with this id: POST /grants/{id}/refresh makes another token of it")
		return
	}
	token, claims, err := s.Mint(MintParams{
		Scopes: in.Scopes, Life: time.Duration(in.Life), Principal: in.PrincipalID,
		Developer: in.DeveloperID, Agent: in.AgentID, GrantID: in.GrantID,
	})
	if err != nil {
		adminError(w, http.StatusInternalServerError, err.Error())
		return
	}
	writeToken(w, http.StatusCreated, token.Reveal(), claims)
}

func (s *Server) adminRefresh(w http.ResponseWriter, r *http.Request) {
	token, claims, err := s.Refresh(r.PathValue("id"))
	if err != nil {
		writeGrantError(w, err)
		return
	}
	writeToken(w, http.StatusCreated, token.Reveal(), claims)
}

// writeToken answers in the shape of the service's token endpoint, so that the
// answer can be used as a grant file as it is.
func writeToken(w http.ResponseWriter, status int, token string, claims Claims) {
	adminAnswer(w, status, struct {
		GrantToken string   `json:"grantToken"`
		ExpiresAt  string   `json:"expiresAt"`
		Scopes     []string `json:"scopes"`
		GrantID    string   `json:"grantId"`
	}{token, isoTime(claims.ExpiresAt.Time), claims.Scopes, claims.GrantID})
}

func (s *Server) adminGrants(w http.ResponseWriter, _ *http.Request) {
	adminAnswer(w, http.StatusOK, map[string]any{"grants": s.Grants()})
}

func (s *Server) adminRevoke(w http.ResponseWriter, r *http.Request) {
	if err := s.Revoke(r.PathValue("id")); err != nil {
		writeGrantError(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func writeGrantError(w http.ResponseWriter, err error) {
	if errors.Is(err, ErrUnknownGrant) {
		adminError(w, http.StatusNotFound, "no such grant: GET /grants lists them")
		return
	}
	adminError(w, http.StatusInternalServerError, err.Error())
}

// adminStore takes what the developer's call takes, and answers the same, but
// knows no limit and needs no key.
func (s *Server) adminStore(w http.ResponseWriter, r *http.Request) {
	raw, ok := readAdminBody(w, r)
	if !ok {
		return
	}
	body, refused := parseBody(rawBody{bytes: raw, typed: true, contentType: "application/json"})
	if refused != nil {
		adminError(w, http.StatusBadRequest, "the body is not JSON")
		return
	}
	a, err := s.store(body, DefaultDeveloper)
	switch {
	case err != nil:
		adminError(w, http.StatusInternalServerError, err.Error())
		return
	case a.status == http.StatusInternalServerError:
		adminError(w, http.StatusBadRequest, "the vault would answer 500: tokenExpiresAt is not an ISO 8601 time, or a member is of a wrong type")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	_, _ = w.Write(append(a.body, '\n'))
}

func (s *Server) adminAddFault(w http.ResponseWriter, r *http.Request) {
	var in faultJSON
	if !readAdmin(w, r, &in) {
		return
	}
	if in.ID != 0 || in.Applied != 0 {
		adminError(w, http.StatusBadRequest, "id and applied can't be chosen")
		return
	}
	id, err := s.AddFault(in.fault())
	if err != nil {
		adminError(w, http.StatusBadRequest, err.Error())
		return
	}
	in.ID = id
	adminAnswer(w, http.StatusCreated, in)
}

func (s *Server) adminFaults(w http.ResponseWriter, _ *http.Request) {
	list := []faultJSON{}
	for _, a := range s.Faults() {
		list = append(list, toFaultJSON(a))
	}
	adminAnswer(w, http.StatusOK, map[string]any{"faults": list})
}

func (s *Server) adminClearFaults(w http.ResponseWriter, _ *http.Request) {
	s.ClearFaults()
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) adminRemoveFault(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil || !s.RemoveFault(id) {
		adminError(w, http.StatusNotFound, "no such fault: GET /faults lists them")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// clockJSON is how far the vault's clock is off.
type clockJSON struct {
	Offset duration `json:"offset"`
}

func (s *Server) adminClock(w http.ResponseWriter, _ *http.Request) {
	adminAnswer(w, http.StatusOK, clockJSON{duration(s.ClockOffset())})
}

func (s *Server) adminSetClock(w http.ResponseWriter, r *http.Request) {
	var in clockJSON
	if !readAdmin(w, r, &in) {
		return
	}
	s.SetClockOffset(time.Duration(in.Offset))
	adminAnswer(w, http.StatusOK, in)
}

func (s *Server) adminExchanges(w http.ResponseWriter, _ *http.Request) {
	report := s.Exchanges()
	adminAnswer(w, http.StatusOK, struct {
		Exchanges
		Window duration `json:"window"`
	}{report, duration(report.Window)})
}

func (s *Server) adminResetExchanges(w http.ResponseWriter, _ *http.Request) {
	s.ResetExchanges()
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) adminReset(w http.ResponseWriter, _ *http.Request) {
	s.Reset()
	w.WriteHeader(http.StatusNoContent)
}

// readAdmin reads a JSON object into v and answers what is wrong with it, if
// anything is. An unknown member is an error: it is a misspelt one.
func readAdmin(w http.ResponseWriter, r *http.Request, v any) bool {
	body, ok := readAdminBody(w, r)
	if !ok {
		return false
	}
	if err := decodeStrictly(body, v); err != nil {
		adminError(w, http.StatusBadRequest, err.Error())
		return false
	}
	return true
}

func readAdminBody(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	// A page can make a browser send a form, but not JSON, without asking.
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		adminError(w, http.StatusUnsupportedMediaType, "send JSON, with Content-Type: application/json")
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err != nil {
		adminError(w, http.StatusRequestEntityTooLarge, "the body is too large or was cut off")
		return nil, false
	}
	return body, true
}

func adminAnswer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(compactJSON(v), '\n'))
}

func adminError(w http.ResponseWriter, status int, message string) {
	adminAnswer(w, status, struct {
		Message string `json:"message"`
	}{message})
}

// decodeStrictly decodes one JSON object without unknown members. Its errors
// name members and never quote values.
func decodeStrictly(body []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType):
		if wrongType.Type == reflect.TypeFor[duration]() {
			return fmt.Errorf("member %q is not a duration such as \"1m30s\"", wrongType.Field)
		}
		return fmt.Errorf("member %q is not of type %s", wrongType.Field, wrongType.Type)
	case errors.Is(err, io.EOF):
		return errors.New("the body is empty: send a JSON object, {} for the defaults")
	case err != nil:
		return fmt.Errorf("the body can't be read: %w", err)
	case dec.More():
		return errors.New("there is something behind the JSON object")
	}
	return nil
}
