"""Actions in three steps: a form, the plan of what would happen, and the confirmation that carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cachekeep.domain.faults import Fault, invalid_value
from cachekeep.web.actions import ACTIONS, Action, answers_of, choices_of, usual_answers
from cachekeep.web.frame import Form, Frame, find_resource, to
from cachekeep.web.sessions import Plan, Session

_GONE = "This plan is not known any more: plan again."


class ActionPages:
    """Nothing is carried out that was not shown as a plan to the same session, and no plan twice."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    async def ask(self, request: Request, session: Session) -> Response:
        action = _action(request)
        kind, target = self._target(action, session, request.query_params.get("of", ""))
        return self._form(request, session, action, (kind, target), usual_answers(action, target))

    async def plan(self, request: Request, session: Session, form: Form) -> Response:
        """Rehearse. Where the service refuses, the form comes back as it was sent, with the reason."""
        action, of = _action(request), form.get("of", "")
        kind, target = self._target(action, session, of)
        try:
            answers = answers_of(action, form)
            fields = action.request(answers, target)
            preview = self._frame.operator.rehearse(session.region, session.access_key, fields)
        except Fault as fault:
            kept = {field.name: form.get(field.name, "") for field in action.fields}
            return self._form(request, session, action, (kind, target), kept, fault)
        name = str(target["id"]) if target else answers.get("id", "")
        typed = name if action.typed else ""
        plan = Plan(action.name, of, session.region, fields, answers, dict(preview), typed)
        return self._plan(request, session, plan)

    async def confirm(self, request: Request, session: Session, form: Form) -> Response:
        token = form.get("plan", "")
        plan = session.plans.get(token)
        if plan is None:
            raise Fault("InvalidParameterValue", _GONE, 409)
        if plan.typed and form.get("typed", "").strip() != plan.typed:
            wrong = invalid_value(f"Type {plan.typed} to confirm; nothing was done.")
            return self._plan(request, session, plan, wrong, token)
        # Taken out first: a second click must not carry it out again.
        del session.plans[token]
        try:
            self._frame.operator.perform(plan.region, session.access_key, plan.fields)
        except Fault as fault:
            return self._plan(request, session, plan, fault)
        session.notice = f"{ACTIONS[plan.action].title}: accepted."
        stays = plan.resource and not plan.typed
        return to(f"/{plan.resource}") if stays else to("/")

    def _target(self, action: Action, session: Session, of: str) -> tuple[str, Mapping[str, Any]]:
        """of: KIND/NAME, as in the path of the resource's page."""
        if action.kinds == ("new",):
            return "new", {}
        kind, _, name = of.partition("/")
        if kind not in action.kinds:
            raise invalid_value(f"{action.title} is not for this.")
        return kind, find_resource(self._frame.views, session.region, kind, name)

    def _form(
        self,
        request: Request,
        session: Session,
        action: Action,
        of: tuple[str, Mapping[str, Any]],
        answers: Mapping[str, str],
        fault: Fault | None = None,
    ) -> Response:
        kind, target = of
        node_types = self._frame.views.node_types()
        return self._frame.page(
            "action.html",
            request,
            session,
            fault.status if fault else 200,
            action=action,
            of=f"{kind}/{target['id']}" if target else "",
            target=target,
            answers=answers,
            choices={field.name: choices_of(field, target, node_types) for field in action.fields},
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


def _action(request: Request) -> Action:
    action = ACTIONS.get(request.path_params["action"])
    if action is None:
        raise Fault("InvalidParameterValue", "There is no such action.", 404)
    return action
