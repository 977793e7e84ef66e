"""Actions in three steps: a form, the plan of what would happen, and the confirmation that carries it out."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from cachekeep.domain.faults import Fault, invalid_value
from cachekeep.web.actions import ACTIONS, Action, Answers, Target, answers_of, choices_of, usual_answers
from cachekeep.web.agreement import identity_of, still_holds
from cachekeep.web.frame import Form, Frame, find_resource, shown_name, to
from cachekeep.web.sessions import PLAN_S, Plan, Session

_GONE = f"This plan is not known any more, or older than {PLAN_S / 60:g} minutes; nothing was done. Plan again."


class ActionPages:
    """Nothing is carried out that was not shown as a plan to the same session, no plan twice, and none that would be
    another one by now."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    async def ask(self, request: Request, session: Session) -> Response:
        action = _action(request)
        _check_region(session, request.query_params.get("region", session.region))
        kind, target = self._target(action, session.region, request.query_params.get("of", ""))
        return self._form(request, session, action, (kind, target), usual_answers(action, target))

    async def plan(self, request: Request, session: Session, form: Form) -> Response:
        """Rehearse. Where the service refuses, the form comes back as it was sent, with the reason."""
        action, of = _action(request), form.get("of", "")
        _check_region(session, form.get("region", ""))
        kind, target = self._target(action, session.region, of)
        try:
            plan = self._rehearse(session, session.region, action, (of, target), answers_of(action, form))
        except Fault as fault:
            kept = {field.name: form.get(field.name, "") for field in action.fields}
            return self._form(request, session, action, (kind, target), kept, fault)
        return self._plan(request, session, plan)

    async def confirm(self, request: Request, session: Session, form: Form) -> Response:
        token = form.get("plan", "")
        plan = session.find_plan(token)
        if plan is None:
            raise Fault("InvalidParameterValue", _GONE, 409)
        if plan.typed and form.get("typed", "").strip() != plan.name:
            wrong = invalid_value(f"Type {plan.name} to confirm; nothing was done.")
            return self._plan(request, session, plan, wrong, token)
        # Taken out first: a second click must not carry it out again.
        del session.plans[token]
        action = ACTIONS[plan.action]
        try:
            _, target = self._target(action, plan.region, plan.resource)
            anew = self._rehearse(session, plan.region, action, (plan.resource, target), plan.answers)
            if not still_holds(plan, anew):
                return self._plan(request, session, anew, _changed(plan))
            # Nothing is awaited since the rehearsal: this is what it was about.
            self._frame.operator.perform(plan.region, session.access_key, plan.fields, session.source)
        except Fault as fault:
            return self._plan(request, session, plan, fault)
        session.notice = f"{action.on(plan.name)}: accepted."
        # Where another page chose a region since: what was done is to be seen.
        session.region = plan.region
        stays = plan.resource and not plan.typed
        return to(f"/{plan.resource}") if stays else to("/")

    def _rehearse(
        self, session: Session, region: str, action: Action, of: tuple[str, Target], answers: Answers
    ) -> Plan:
        """of: the resource as in a path, and its row. Raises the service's refusal."""
        path, target = of
        fields = action.request(answers, target)
        preview = self._frame.operator.rehearse(region, session.access_key, fields, session.source)
        name = shown_name(target) if target else answers.get("id", "")
        return Plan(action.name, path, region, fields, answers, dict(preview), name, action.typed, identity_of(target))

    def _target(self, action: Action, region: str, of: str) -> tuple[str, Target]:
        """of: KIND/NAME, as in the path of the resource's page."""
        if action.kinds == ("new",):
            return "new", {}
        kind, _, name = of.partition("/")
        if kind not in action.kinds:
            raise invalid_value(f"{action.title} is not for this.")
        return kind, find_resource(self._frame.views, region, kind, name)

    def _form(
        self,
        request: Request,
        session: Session,
        action: Action,
        of: tuple[str, Target],
        answers: Answers,
        fault: Fault | None = None,
    ) -> Response:
        kind, target = of
        views = self._frame.views
        node_types, held = views.node_types(), views.backups(session.region)
        snapshots = [one["name"] for one in held if one["state"] == "available" and not one["serverless"]]
        return self._frame.page(
            "action.html",
            request,
            session,
            fault.status if fault else 200,
            action=action,
            of=f"{kind}/{shown_name(target)}" if target else "",
            target=target,
            answers=answers,
            choices={field.name: choices_of(field, target, node_types, snapshots) for field in action.fields},
            fault=fault,
        )

    def _plan(
        self, request: Request, session: Session, plan: Plan, fault: Fault | None = None, token: str = ""
    ) -> Response:
        return self._frame.page(
            "plan.html",
            request,
            session,
            fault.status if fault else 200,
            action=ACTIONS[plan.action],
            plan=plan,
            preview=plan.preview,
            token=token or session.keep_plan(plan),
            fault=fault,
        )


def _changed(plan: Plan) -> Fault:
    text = f"{plan.name} has changed since this plan was made, and nothing was done. Below is the plan as it is now."
    return Fault("InvalidParameterValue", f"{text} Look again before you confirm it.", 409)


def _check_region(session: Session, region: str) -> None:
    """A page that was opened before another one chose a region means the resource of its own region."""
    if region != session.region:
        text = f"This page is of {region[:40] or 'no region'}, but by now {session.region} is chosen; nothing was done."
        raise Fault("InvalidParameterValue", f"{text} Choose the region again.", 409)


def _action(request: Request) -> Action:
    action = ACTIONS.get(request.path_params["action"])
    if action is None:
        raise Fault("InvalidParameterValue", "There is no such action.", 404)
    return action
